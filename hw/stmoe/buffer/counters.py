"""Counters of the expert manager: increments that follow from its events."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import Event

__all__ = ["COUNTERS", "ManagerCounters", "increments"]

COUNTERS = (
    "routed", "hit_resident", "hit_prefetched", "hit_late", "missed", "shared_hit", "shared_late",
    "shared_missed", "prefetches", "skipped", "cancelled", "dropped", "evictions", "beats_demand",
    "beats_useful", "beats_wasted", "failed", "map_reads", "rows_withheld")


def increments(geometry: Geometry) -> dict[str, int]:
    """Bits of the increment ``inc_NAME`` per counter."""
    return {name: geometry.beat_bits if name.startswith("beats_") else 1 for name in COUNTERS}


class ManagerCounters(wiring.Component):
    """Increments in the cycle of the event; combinational.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    event: valid and payload. shared: it is about a shared expert. blob_beats: beats of an expert;
        demand_beats: of what is loaded on demand, where that may be dense weights.
    inc_NAME: increments, see :func:`increments`.
    """

    def __init__(self, geometry: Geometry):
        self.config = geometry.config
        super().__init__({
            "event": In(data.StructLayout({"valid": 1, "payload": interfaces.event(geometry)})),
            "shared": In(1), "blob_beats": In(24),
            **{f"inc_{name}": Out(bits) for name, bits in increments(geometry).items()}} | (
            {"demand_beats": In(24)} if geometry.config.dense_blobs else {}))

    def elaborate(self, platform):
        m = Module()
        kind, arg = self.event.payload.kind, self.event.payload.arg
        beats, shared = self.blob_beats, self.shared
        demand_beats, shared_missed = beats, shared
        if self.config.dense_blobs:  # which are no experts
            demand_beats = self.demand_beats
            shared_missed = shared & (self.event.payload.expert < self.config.model.expert_ids)

        def any_of(*kinds):
            return Cat(kind == k for k in kinds).any()

        verified = (Event.HIT_RESIDENT, Event.HIT_PREFETCHED, Event.HIT_LATE, Event.MISS)
        for name, value in {
                "routed": any_of(*verified) & ~shared,
                "hit_resident": any_of(Event.HIT_RESIDENT) & ~shared,
                "hit_prefetched": any_of(Event.HIT_PREFETCHED) & ~shared,
                "hit_late": any_of(Event.HIT_LATE) & ~shared,
                "missed": any_of(Event.MISS) & ~shared,
                "shared_hit": any_of(Event.HIT_RESIDENT, Event.HIT_PREFETCHED) & shared,
                "shared_late": any_of(Event.HIT_LATE) & shared,
                "shared_missed": any_of(Event.MISS) & shared_missed,
                "prefetches": any_of(Event.PREFETCH), "skipped": any_of(Event.SKIP),
                "cancelled": any_of(Event.CANCEL),
                "dropped": any_of(Event.DROP), "evictions": any_of(Event.EVICT),
                "beats_demand": Mux(any_of(Event.DEMAND), demand_beats, 0),
                "beats_useful": Mux(any_of(Event.HIT_PREFETCHED, Event.HIT_LATE), beats, 0),
                "beats_wasted": Mux(any_of(Event.CANCEL), arg, Mux(
                    any_of(Event.DROP) | (any_of(Event.FAIL) & ~arg[0]), beats, 0)),
                "failed": any_of(Event.FAIL), "rows_withheld": any_of(Event.TOKEN) & arg[0],
                "map_reads": any_of(*verified, Event.TOUCH, Event.PREFETCH, Event.SKIP,
                                    Event.STOP)}.items():
            m.d.comb += getattr(self, f"inc_{name}").eq(value)
        return m
