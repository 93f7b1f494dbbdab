"""One line of the bench: what was measured, as text and as JSON."""
import statistics


class Sample:
    """The values of several runs."""

    def __init__(self, values):
        self.values = sorted(values)
        self.median = statistics.median(values)

    def object(self):
        return {"median": self.median, "min": self.values[0], "max": self.values[-1], "n": len(self.values)}

    def text(self, unit):
        if self.values[0] == self.values[-1]:
            return "%s %s" % (number(self.median), unit)
        return "%s %s [%s..%s]" % (number(self.median), unit, number(self.values[0]), number(self.values[-1]))


def number(x):
    return "%.4g" % x if abs(x) < 10000 else "%d" % x


class Aim:
    """A measured value that must not be more than a limit."""

    def __init__(self, what, unit, ours, bare, limit, of_ratio):
        """limit: of ours / bare when of_ratio, else of ours. bare may be None."""
        self.what, self.unit, self.ours, self.bare, self.limit, self.of_ratio = what, unit, ours, bare, limit, of_ratio
        self.ratio = ours.median / bare.median if bare and bare.median else None
        self.ok = (self.ratio if of_ratio else ours.median) <= limit

    def aim(self):
        return "<= %s x" % number(self.limit) if self.of_ratio else "<= %s %s" % (number(self.limit), self.unit)


class Row:
    """A bench: its first aim is the one that name, unit, ours, bare, ratio and aim speak of; ok is of all."""
    HEADER = "%-22s %-30s %-30s %7s  %-12s %s" % ("bench", "ours", "bare", "ratio", "aim", "ok")

    def __init__(self, name, unit, aims, error=None, **more):
        self.name, self.unit, self.aims, self.error, self.more = name, unit, aims or [], error, more
        self.ok = error is None and all(a.ok for a in self.aims)

    def object(self):
        o = {"name": self.name, "unit": self.unit, "ours": None, "bare": None, "ratio": None, "aim": None, "ok": self.ok}
        if self.error:
            return dict(o, error=self.error, **self.more)
        for i, a in enumerate(self.aims):
            one = {"unit": a.unit, "ours": a.ours.median, "bare": a.bare.median if a.bare else None, "ratio": a.ratio,
                   "aim": a.aim(), "ok": a.ok, "ours_runs": a.ours.object(),
                   "bare_runs": a.bare.object() if a.bare else None}
            if i == 0:
                o.update(one, ok=self.ok)
            o.setdefault("measured", {})[a.what] = one
        o.update(self.more)
        return o

    def text(self):
        if self.error:
            return "%-22s failed: %s" % (self.name, self.error)
        lines = []
        for a in self.aims:
            lines.append("%-22s %-30s %-30s %7s  %-12s %s" % (
                self.name + ("" if a.what == self.name else " " + a.what), a.ours.text(a.unit),
                a.bare.text(a.unit) if a.bare else "-", "%.2f" % a.ratio if a.ratio else "-", a.aim(),
                "yes" if a.ok else "NO"))
        notes = ", ".join("%s %s" % (k.replace("_", " "), v if isinstance(v, str) else number(v))
                          for k, v in self.more.items() if isinstance(v, (str, int, float)))
        return "\n".join(lines + ["%-22s   (%s)" % ("", notes)])
