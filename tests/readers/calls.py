"""What readers of exported traces print: one JSON array a call, [tid, name, start, end, depth],
with times in nanoseconds and the depth among the calls of its lane."""

import json
import sys


class Lanes:
    """Calls that nest, lane by lane."""

    def __init__(self):
        self.open = {}

    def begin(self, tid, lane, at, name):
        self.open.setdefault(lane, []).append((tid, at, name))

    def end(self, lane, at, name=None):
        calls = self.open.get(lane)
        if not calls:
            sys.exit(f"an end at {at} without a beginning on lane {lane}")
        tid, began, opened = calls.pop()
        if name is not None and name != opened:
            sys.exit(f"{name} ends at {at}, but {opened} is the innermost call")
        tell(tid, opened, began, at, len(calls))

    def finish(self):
        for lane, calls in self.open.items():
            if calls:
                sys.exit(f"{len(calls)} calls without an end on lane {lane}")


def tell(tid, name, start, end, depth):
    print(json.dumps([tid, name, start, end, depth]))


def nanoseconds(microseconds):
    """A decimal number of microseconds, read as text."""
    whole, _, rest = microseconds.partition(".")
    return int(whole) * 1000 + int((rest + "000")[:3])
