"""A run's decisions as a timeline in the Chrome trace format, which ui.perfetto.dev opens."""

from collections.abc import Sequence
from typing import Any

from stmoe_golden.buffer.manager import Kind

__all__ = ["chrome_trace"]

LAYERS = 0  # track of the layers; slot s is track s + 1
STARTS = {Kind.DEMAND: "demand load", Kind.PREFETCH: "prefetch"}
HITS = {Kind.HIT_RESIDENT: "in use", Kind.HIT_PREFETCHED: "in use, was prefetched"}


class _Track:
    """Spans of one track, one at a time."""

    def __init__(self, process: int, thread: int, clock_mhz: int):
        self.common = {"pid": process, "tid": thread, "cat": "stmoe"}
        self.clock_mhz, self.spans = clock_mhz, list[dict[str, Any]]()
        self.open: tuple[int, str, dict[str, Any]] | None = None

    def begin(self, cycle: int, name: str, **args: Any) -> None:
        self.end(cycle)
        self.open = cycle, name, args

    def end(self, cycle: int, **more: Any) -> None:
        if self.open is not None:
            start, name, args = self.open
            self.spans.append(self.common | {
                "ph": "X", "name": name, "ts": start / self.clock_mhz,
                "dur": (cycle - start) / self.clock_mhz,
                "args": args | more | {"cycle": start, "cycles": cycle - start}})
            self.open = None


def _policy(process: int, name: str, events: Sequence[Sequence[int]],
            clock_mhz: int) -> list[dict[str, Any]]:
    tracks: dict[int, _Track] = {}
    pinned: set[int] = set()
    used = 0

    def track(thread: int) -> _Track:
        return tracks.setdefault(thread, _Track(process, thread, clock_mhz))

    cycle = 0
    for cycle, number, layer, expert, slot, arg in events:
        kind, what = Kind(number), f"L{layer} E{expert}"
        here = track(LAYERS if kind in (Kind.TOKEN, Kind.ROUTE, Kind.MISS, Kind.STOP) else slot + 1)
        if kind == Kind.ROUTE:
            used = arg & 0xff
            here.begin(cycle, f"layer {layer}", experts=used, slack=arg >> 8)
        elif kind in STARTS:
            here.begin(cycle, f"{what} {STARTS[kind]}", layer=layer, expert=expert)
            if kind == Kind.DEMAND:
                pinned.add(slot)
        elif kind in HITS:
            here.begin(cycle, f"{what} {HITS[kind]}", layer=layer, expert=expert)
        elif kind == Kind.HIT_LATE:
            here.begin(cycle, f"{what} prefetch, waited for", layer=layer, expert=expert)
            pinned.add(slot)
        elif kind == Kind.READY and slot in pinned:
            here.begin(cycle, f"{what} in use", layer=layer, expert=expert)
        elif kind in (Kind.READY, Kind.CANCEL, Kind.FAIL):
            here.end(cycle, end=kind.name)
        elif kind == Kind.RELEASE:
            here.end(cycle, end=kind.name)
            pinned.discard(slot)
            used -= 1
            if used == 0:
                track(LAYERS).end(cycle)
    for one in tracks.values():
        one.end(cycle)
    names = [{"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}}]
    names += [{"ph": "M", "pid": process, "tid": thread, "name": "thread_name",
               "args": {"name": "layers" if thread == LAYERS else f"slot {thread - 1}"}}
              for thread in sorted(tracks)]
    return names + [span for thread in sorted(tracks) for span in tracks[thread].spans]


def chrome_trace(runs: Sequence[tuple[str, Sequence[Sequence[int]]]],
                 clock_mhz: int) -> dict[str, Any]:
    """The timeline of runs (policy, events): a process per policy, a track for its layers and one
    per slot; times in microseconds, cycles beside each span.

    ``events``: [cycle, kind, layer, expert, slot, arg] as the netlist logs them, in order. A layer
    lasts from its routing until its last expert has been read.
    """
    spans = [span for process, (name, events) in enumerate(runs, 1)
             for span in _policy(process, name, events, clock_mhz)]
    return {"displayTimeUnit": "ns", "traceEvents": spans}
