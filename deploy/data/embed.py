"""Writes a file's bytes as the C array that the node has built in: embed.py INPUT OUTPUT."""
import sys

data = open(sys.argv[1], "rb").read()
rows = [", ".join(str(b) for b in data[i : i + 24]) for i in range(0, len(data), 24)]
with open(sys.argv[2], "w") as out:
    out.write('#include "services/node/events.h"\n\nstatic const uint8_t bytes[] = {\n    ')
    out.write(",\n    ".join(rows))
    out.write("};\nconst struct view events_builtin = {bytes, sizeof bytes};\n")
