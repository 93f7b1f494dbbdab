"""What a central site has acknowledged, kept by those who asked: at the end every site must show it."""
import json

from sites import CommandError, Failure


class Ledger:
    """Local updates of one publisher. A command without an answer may have taken effect or not, now or later: its
    update is then left alone, and either outcome is fine."""
    PUBLISHER = "ledger"

    def __init__(self, rng):
        self.rng = rng
        self.shown = {}      # id -> the states that it may have: ("active", revision), ("expired", revision), None
        self.settled = []    # ids with one outcome: they may be changed again
        self.made = self.acknowledged = self.unanswered = 0

    def _ask(self, site, update, command, outcome, **args):
        before = self.shown.get(update, {None})
        self.shown[update] = before | {outcome}
        try:
            site.control(command, timeout=4, **args)
        except (OSError, CommandError):  # (a refusal may come from the node while its worker goes on)
            self.unanswered += 1
            if update in self.settled:
                self.settled.remove(update)
            return
        self.acknowledged += 1
        self.shown[update] = {outcome}
        if outcome is None:
            self.settled = [u for u in self.settled if u != update]
        elif update not in self.settled:
            self.settled.append(update)

    def publish(self, site, update=None, revision=1):
        if update is None:
            self.made += 1
            update = "u-%d" % self.made
        body = {"id": update, "title": "revision %d" % revision, "description": "x" * self.rng.randrange(2000)}
        self._ask(site, update, "update.publish", ("active", revision), json=json.dumps(body), publisher=self.PUBLISHER)

    def act(self, site):
        """One random command."""
        old = [u for u in self.settled if next(iter(self.shown[u]))[0] == "active"]
        choice = self.rng.random()
        if choice < 0.6 or not old:
            return self.publish(site)
        update = self.rng.choice(old)
        revision = next(iter(self.shown[update]))[1]
        full = "local/%s/%s" % (self.PUBLISHER, update)
        if choice < 0.85:
            self.publish(site, update, revision + 1)
        elif choice < 0.93:
            self._ask(site, update, "update.expire", ("expired", revision), id=full)
        else:
            self._ask(site, update, "update.remove", None, id=full)

    def check(self, site):
        prefix = "local/%s/" % self.PUBLISHER
        found = {u["id"][len(prefix):]: (u["state"], int(u["title"].split()[1]))
                 for u in listing(site, prefix[:-1])}
        wrong = {u: (found.get(u), sorted(map(str, may))) for u, may in self.shown.items() if found.get(u) not in may}
        unknown = set(found) - set(self.shown)
        if wrong or unknown:
            raise Failure("%s: acknowledged and not shown (found, allowed): %s; never asked for: %s" % (
                site.code, dict(sorted(wrong.items())[:10]), sorted(unknown)[:10]))
        return found


def listing(site, scope=None, state=None):
    """All updates of a site, page by page."""
    updates, after = [], None
    while True:
        args = {"limit": 500, "scope": scope, "state": state, "after": after}
        page = site.control("catalogue.list", **{k: v for k, v in args.items() if v is not None})
        updates += page["updates"]
        after = page["next"]
        if after is None:
            return updates
