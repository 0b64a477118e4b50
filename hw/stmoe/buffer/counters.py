"""Counters of the expert manager: increments that follow from its events."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import Event

__all__ = ["COUNTERS", "ManagerCounters"]

COUNTERS = {
    "routed": 1, "hit_resident": 1, "hit_prefetched": 1, "hit_late": 1, "missed": 1,
    "shared_hit": 1, "shared_late": 1, "shared_missed": 1, "prefetches": 1, "skipped": 1,
    "cancelled": 1, "dropped": 1, "evictions": 1, "beats_demand": 24, "beats_useful": 24,
    "beats_wasted": 24, "failed": 1, "map_reads": 1, "rows_withheld": 1}
"""Bits of the increment ``inc_NAME`` per counter."""


class ManagerCounters(wiring.Component):
    """Increments in the cycle of the event; combinational.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    event: valid and payload. shared: it is about a shared expert. blob_beats: beats of an expert;
        demand_beats: of what is loaded on demand, where that may be dense weights.
    inc_NAME: increments, see :data:`COUNTERS`.
    """

    def __init__(self, geometry: Geometry):
        self.config = geometry.config
        super().__init__({
            "event": In(data.StructLayout({"valid": 1, "payload": interfaces.event(geometry)})),
            "shared": In(1), "blob_beats": In(24),
            **{f"inc_{name}": Out(bits) for name, bits in COUNTERS.items()}} | (
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
