"""Reads the weights of a layer from expert memory."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config.weight_layout import WeightLayout
from ..interfaces import AxiReadSignature
from .linear_shape import LinearShape

__all__ = ["BlockFetch"]

INCR = 1


class BlockFetch(wiring.Component):
    """Asks for the rows of a layer's block, the bias first, ``reads`` bursts at a time.

    Bursts may be answered in any order and their beats interleaved. Latency: AR valid two cycles
    after ``start``, then a burst per cycle while an id is free; beats are passed on in their cycle.
    Back-pressure: a burst on AR holds while stalled; R waits in cycles with ``stall``. Errors: a
    SLVERR or DECERR beat fails the block; nothing is asked for again.
    Reset: nothing asked for; the interconnect is reset together with this block.

    Parameters
    ----------
    shape: LinearShape. first_id: its AXI ids are ``first_id`` .. ``first_id + reads - 1``.

    Members
    -------
    start, layer: pulse, begins with the block of ``layer``; not while ``active``.
    base: byte address of the blocks; stable while ``active``.
    cancel: no further burst is asked for.
    stall: no beat is taken in this cycle.
    beat: a beat ``index`` of ``row``.
    active: since ``start``. done: pulse, its last cycle, all bursts that were asked for being over;
        ``failed``, one of them with an error.
    axi: read channels.
    """

    def __init__(self, shape: LinearShape, *, first_id: int, reads: int):
        self.shape, self.first_id, self.reads = shape, first_id, reads
        g = shape.geometry
        layout = self.layout = WeightLayout(g, shape.options)
        super().__init__({
            "start": In(1), "layer": In(unsigned(g.layer_bits)),
            "base": In(g.config.axi_addr_bits), "cancel": In(1), "stall": In(1),
            "beat": Out(data.StructLayout({
                "valid": 1, "row": range(max(2, layout.rows)),
                "index": range(max(2, layout.row_beats)), "data": g.config.axi_data_bits})),
            "active": Out(1), "done": Out(1), "failed": Out(1), "axi": Out(AxiReadSignature(g))})

    def elaborate(self, platform):
        m = Module()
        g, layout, count = self.shape.geometry, self.layout, self.reads
        ar, r = self.axi.ar, self.axi.r
        entry = data.StructLayout({"row": len(self.beat.row), "received": len(self.beat.index)})
        entries = [Signal(entry, name=f"burst_{i}") for i in range(count)]
        used = Signal(count)
        free = Signal(range(max(2, count)))
        for i in reversed(range(count)):
            with m.If(~used[i]):
                m.d.comb += free.eq(i)

        asking, error = Signal(), Signal()
        layer, burst = Signal.like(self.layer), Signal(range(max(2, layout.bursts)))
        burst_bits = (layout.bursts - 1).bit_length()
        rest = layout.rows - (layout.bursts - 1) * layout.burst_rows  # rows of the last burst
        stride_bits = layout.burst_stride.bit_length() - 1
        m.d.comb += [
            self.done.eq(self.active & ~asking & ~used.any()), self.failed.eq(error),
            ar.payload.burst.eq(INCR), ar.payload.size.eq(g.axi_bytes.bit_length() - 1)]
        with m.If(~ar.valid | ar.ready):
            m.d.sync += ar.valid.eq(0)
            with m.If(asking & ~self.cancel & ~used.all()):
                last = burst == layout.bursts - 1
                m.d.sync += [
                    ar.valid.eq(1), ar.payload.id.eq(self.first_id + free), burst.eq(burst + 1),
                    ar.payload.len.eq(
                        Mux(last, rest, layout.burst_rows) * layout.row_beats - 1),
                    ar.payload.addr.eq(self.base + Cat(
                        Const(0, stride_bits), burst[:burst_bits], layer))]
                with m.If(last):
                    m.d.sync += asking.eq(0)
                for i in range(count):
                    with m.If(free == i):
                        m.d.sync += [used[i].eq(1), entries[i].received.eq(0),
                                     entries[i].row.eq(burst * layout.burst_rows)]
        with m.If(self.cancel):
            m.d.sync += asking.eq(0)
        with m.If(self.done):
            m.d.sync += self.active.eq(0)
        with m.If(self.start):
            m.d.sync += [asking.eq(1), self.active.eq(1), error.eq(0), burst.eq(0),
                         layer.eq(self.layer)]

        at = Signal(range(max(2, count)))
        m.d.comb += at.eq(r.payload.id - self.first_id)
        answered = Array(entries)[at]
        m.d.comb += [
            r.ready.eq(~self.stall), self.beat.valid.eq(r.valid & r.ready),
            self.beat.row.eq(answered.row), self.beat.index.eq(answered.received),
            self.beat.data.eq(r.payload.data)]
        with m.If(self.beat.valid & r.payload.resp[1]):
            m.d.sync += error.eq(1)
        for i in range(count):
            with m.If(self.beat.valid & (at == i)):
                m.d.sync += entries[i].received.eq(entries[i].received + 1)
                with m.If(entries[i].received == layout.row_beats - 1):
                    m.d.sync += [entries[i].received.eq(0), entries[i].row.eq(entries[i].row + 1)]
                with m.If(r.payload.last):
                    m.d.sync += used[i].eq(0)
        return m
