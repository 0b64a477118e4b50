"""Events of the expert manager, and what each adds to the counters."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from stmoe.config import Geometry

from ..compute.mapping import matrix_work, work

__all__ = ["COUNTERS", "Kind", "ManagerEvent", "Mismatch", "increments"]


class Kind(IntEnum):
    """Kinds of events; docs/architecture.md gives their meaning."""

    ROUTE = 1
    HIT_RESIDENT = 2
    HIT_PREFETCHED = 3
    HIT_LATE = 4
    MISS = 5
    CANCEL = 6
    DROP = 7
    EVICT = 8
    DEMAND = 9
    PREFETCH = 10
    TOUCH = 11
    STOP = 12
    READY = 13
    FAIL = 14
    RELEASE = 15
    FIRST = 16
    LANDED = 17
    TOKEN = 18
    SKIP = 19
    DENSE = 20


class ManagerEvent(NamedTuple):
    """One decision or arrival. ``arg``: of a ROUTE experts + 256 * slack of the layer, blobs of a
    DENSE, beats of CANCEL and LANDED, whether the layer fails of a FAIL, whether rows are withheld
    of a TOKEN, else 0; None in an expectation = any."""

    kind: int
    layer: int
    expert: int
    slot: int
    arg: int | None = 0

    def __str__(self) -> str:
        try:
            name = Kind(self.kind).name
        except ValueError:
            name = f"event {self.kind}"
        arg = "any" if self.arg is None else self.arg
        return f"{name} layer {self.layer} expert {self.expert} slot {self.slot} arg {arg}"


class Mismatch(Exception):
    """An event that golden would not have brought about."""


COUNTERS = (
    "routed", "hit_resident", "hit_prefetched", "hit_late", "missed", "shared_hit", "shared_late",
    "shared_missed", "prefetches", "skipped", "cancelled", "dropped", "evictions", "beats_demand",
    "beats_useful", "beats_wasted", "beats_link", "failed", "map_reads", "mac_words", "side_reads",
    "bank_reads", "bank_writes", "layers_done", "rows_withheld")
SHARED = {Kind.HIT_RESIDENT: "shared_hit", Kind.HIT_PREFETCHED: "shared_hit",
          Kind.HIT_LATE: "shared_late", Kind.MISS: "shared_missed"}
ROUTED = {Kind.HIT_RESIDENT: "hit_resident", Kind.HIT_PREFETCHED: "hit_prefetched",
          Kind.HIT_LATE: "hit_late", Kind.MISS: "missed"}


def increments(event: ManagerEvent, g: Geometry, shared: bool, parts: Sequence[int] = (1,),
               matrix: bool = False) -> dict[str, int]:
    """What an event, of a ``shared`` expert or not that serves tokens in ``parts``, adds to the
    counters; ``matrix``: of a part of a matrix of dense weights."""
    kind, beats, content = Kind(event.kind), g.blob_beats, g.content_beats
    arg = event.arg or 0
    add: dict[str, int] = {}
    if kind == Kind.MISS and event.expert >= g.config.model.expert_ids:  # dense weights
        add = {"map_reads": 1}
    elif kind in ROUTED:
        add = {SHARED[kind] if shared else ROUTED[kind]: 1, "routed": not shared,
               "map_reads": 1}
        if kind in (Kind.HIT_PREFETCHED, Kind.HIT_LATE):
            add["beats_useful"] = beats
    elif kind == Kind.ROUTE:
        add = {"layers_done": 1}
    elif kind == Kind.TOKEN:
        add = {"rows_withheld": arg}
    elif kind == Kind.DEMAND and matrix:
        add = {"beats_demand": g.matrix_beats, "beats_link": g.matrix_beats,
               "bank_writes": g.matrix_content_beats}
    elif kind == Kind.DEMAND:
        add = {"beats_demand": beats, "beats_link": beats, "bank_writes": content}
    elif kind == Kind.PREFETCH:
        add = {"prefetches": 1, "beats_link": beats, "bank_writes": content,
               "map_reads": 1}
    elif kind == Kind.CANCEL:
        add = {"cancelled": 1, "beats_wasted": arg, "beats_link": arg - beats}
    elif kind == Kind.LANDED:
        add = {"bank_writes": arg - content}
    elif kind == Kind.DROP:
        add = {"dropped": 1, "beats_wasted": beats}
    elif kind == Kind.EVICT:
        add = {"evictions": 1}
    elif kind in (Kind.TOUCH, Kind.STOP):
        add = {"map_reads": 1}
    elif kind == Kind.SKIP:
        add = {"skipped": 1, "map_reads": 1}
    elif kind == Kind.FAIL:
        add = {"failed": 1, "beats_wasted": 0 if arg else beats}
    elif kind == Kind.RELEASE:
        for part in parts:
            for name, value in (matrix_work if matrix else work)(g, part)._asdict().items():
                add[name] = add.get(name, 0) + value
    return add
