#!/bin/bash
# The exposure of the service, as systemd itself rates it: at most 2.0 of 10. UNIT: the file as it is installed.
set -euo pipefail
command -v systemd-analyze >/dev/null || exit 77
exec systemd-analyze security --offline=true --no-pager --threshold=20 "$1"
