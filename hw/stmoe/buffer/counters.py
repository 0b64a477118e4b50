"""Counters of the expert manager: increments that follow from its events."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

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
    """Increments in the cycle after the decision, that of its event on the port.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    made: per :class:`Event`, such a decision is made; one at a time. arg, expert: of its event.
    shared: it is about a shared expert. blob_beats: beats of an expert; demand_beats: of what is
        loaded on demand, where that may be dense weights; both in the cycle after.
    inc_NAME: increments, see :func:`increments`.
    """

    def __init__(self, geometry: Geometry):
        g, self.config = geometry, geometry.config
        super().__init__({
            "made": In(len(Event)), "arg": In(24), "expert": In(g.expert_bits),
            "shared": In(1), "blob_beats": In(g.beat_bits),
            **{f"inc_{name}": Out(bits) for name, bits in increments(g).items()}} | (
            {"demand_beats": In(g.beat_bits)} if geometry.config.dense_blobs else {}))

    def elaborate(self, platform):
        m = Module()
        arg, beats, shared = self.arg, self.blob_beats, self.shared
        demand_beats, shared_missed = beats, shared
        if self.config.dense_blobs:  # which are no experts
            demand_beats = self.demand_beats
            shared_missed = shared & (self.expert < self.config.model.expert_ids)

        def any_of(*kinds):
            return Cat(self.made[kind] for kind in kinds).any()

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
                "failed": any_of(Event.FAIL), "rows_withheld": any_of(Event.TOKEN) & arg[0],
                "map_reads": any_of(*verified, Event.TOUCH, Event.PREFETCH, Event.SKIP,
                                    Event.STOP)}.items():
            m.d.sync += getattr(self, f"inc_{name}").eq(value)
        loaded, useful, wasted, cut = (
            Signal(name=name) for name in ("loaded", "useful", "wasted", "cut"))
        read = Signal.like(arg)
        m.d.sync += [
            loaded.eq(any_of(Event.DEMAND)), read.eq(arg), cut.eq(any_of(Event.CANCEL)),
            useful.eq(any_of(Event.HIT_PREFETCHED, Event.HIT_LATE)),
            wasted.eq(any_of(Event.DROP) | (any_of(Event.FAIL) & ~arg[0]))]
        m.d.comb += [
            self.inc_beats_demand.eq(Mux(loaded, demand_beats, 0)),
            self.inc_beats_useful.eq(Mux(useful, beats, 0)),
            self.inc_beats_wasted.eq(Mux(cut, read, Mux(wasted, beats, 0)))]
        return m
