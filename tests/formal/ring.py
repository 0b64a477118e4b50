"""Experts that stream through the buffer: no tile is written over a word that is to be read.

First that the guard lets no burst be asked for too early, whatever the PEs do, then that the DMA
asks for none that the guard does not let.
"""

from typing import Any
from unittest import mock

from amaranth.hdl import Array, Cat, Fragment, Module, Mux, Signal

from stmoe.config import Geometry
from stmoe.prefetch import dma, ring

from .bench import Bench
from .handshake import small
from .proof import Mutation, Proof

__all__ = ["PROOFS"]

CHANNELS = 2


def guard() -> Bench:
    """Two transfers, two PEs that read what they want, in order."""
    bench, g = Bench(), small(slots=2, max_d_ff=64)
    m, dut = bench.m, bench.add(ring.RingGuard(g, CHANNELS))
    sides, word = dut.shape.side_words * (g.side_bytes // g.axi_bytes), g.word_bytes // g.axi_bytes
    last = g.max_blob_beats
    bench.still(dut.shape)
    bench.assume(dut.shape.ring & (sides < last))

    read = Array(bench.free(g.beat_bits, f"read_{slot}") for slot in range(2))  # beats of content
    for slot, beats in enumerate(read):
        begins = bench.past(dut.begin.any() & (dut.into == slot))
        before = bench.past(beats)
        bench.assume(Mux(begins, beats == sides, beats >= before) & (beats <= last))
    for passed in dut.passed:
        bench.assume(~passed.valid | ((passed.beats <= read[passed.slot] + word)
                                      & (passed.beats >= word)))
    bench.assume(~dut.passed[0].valid | ~dut.passed[1].valid
                 | (dut.passed[0].slot != dut.passed[1].slot))

    busy, asked = Signal(CHANNELS), [Signal(g.beat_bits, name=f"of_{c}") for c in range(CHANNELS)]
    over = bench.free(CHANNELS, "over")
    bench.assume(dut.begin != 3)
    for c, count in enumerate(asked):
        slot, begin, sent = dut.slots[c], dut.begin[c], dut.sent[c]
        bench.assume(bench.past(begin) | (slot == bench.past(slot)) | ~bench.started)
        bench.assume(~bench.past(begin) | (slot == bench.past(dut.into)))
        bench.assume(~begin | (~busy[c] & ~(busy[1 - c] & (dut.slots[1 - c] == dut.into))))
        bench.assume(~sent | (busy[c] & dut.room[c] & ~bench.past(sent | begin)
                              & (dut.len < g.tile_beats) & (count + dut.len + 1 <= last)))
        with m.If(begin):
            m.d.sync += [busy[c].eq(1), count.eq(0)]
        with m.Elif(over[c]):
            m.d.sync += busy[c].eq(0)
        with m.If(sent):
            m.d.sync += count.eq(count + dut.len + (1 - g.config.integrity))
        bench.rule(f"counts_{c}", ~busy[c] | (count == dut.asked[c]))
        bench.rule(f"unread_{c}", ~busy[c] | (count <= read[slot] + g.ring_beats))
        wanting = Cat((p.valid & (p.slot == slot) & (p.beats > count)) for p in dut.passed).any()
        still = busy[c] & ~sent & wanting
        once = bench.past(still)
        bench.rule(f"goes_on_{c}", ~(once & bench.past(once) & still) | dut.room[c])
    spare = g.ring_beats - (g.tile_beats - g.config.integrity)
    for slot, limit in enumerate(dut.limits):
        used = Cat(busy[c] & (dut.slots[c] == slot) for c in range(CHANNELS)).any()
        bench.rule(f"limit_{slot}", ~used | (limit <= read[slot] + spare))
    return bench


class AnyGuard(ring.RingGuard):
    """Decides as ``choice`` says."""

    def __init__(self, geometry: Geometry, channels: int, choice: Signal):
        super().__init__(geometry, channels)
        self.choice = choice

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.room.eq(self.choice)
        return m


def asks() -> Bench:
    """The DMA under any decisions of the guard."""
    bench, g = Bench(), small(slots=2, max_d_ff=64)
    dut = dma.PrefetchDma(g)
    guards = []

    def free(geometry: Geometry, channels: int) -> AnyGuard:
        guards.append(AnyGuard(geometry, channels, bench.free(channels, "choice")))
        return guards[0]
    with mock.patch.dict(type(dut).elaborate.__globals__, RingGuard=free):
        bench.add(dut, module=Fragment.get(dut, None))
    (guard,) = guards
    bench.still(dut.shape)
    bench.assume((dut.shape.blob_beats != 0) & (dut.shape.blob_beats <= g.max_blob_beats))
    for order in (dut.demand, dut.prefetch):
        bench.assume(bench.stable(order))
    bench.rule("asked", (guard.sent & ~guard.room) == 0)
    bench.rule("later", (guard.sent & bench.past(guard.sent | guard.begin)) == 0)
    return bench


PROOFS = (
    Proof(name="nothing unread is overwritten", module="RingGuard", build=guard, depth=4,
          fault_depth=24, faults=(
        Mutation("prefetch.ring:RingGuard",
                 "g.ring_beats - word_beats - (g.tile_beats - g.config.integrity)",
                 "g.ring_beats - (g.tile_beats - g.config.integrity)", "unread_0"),)),
    Proof(name="nothing unread is overwritten", module="PrefetchDma", build=asks, mode="bmc",
          depth=16, quick=10, faults=(
        Mutation("prefetch.dma:PrefetchDma", "chosen & wanting & (demanded",
                 "chosen & (demanded", "asked"),)),
)
