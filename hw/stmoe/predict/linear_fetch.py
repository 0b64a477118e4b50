"""Reads a token's rows from expert memory."""

from amaranth.hdl import Array, C, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config.lexical_layout import LexicalLayout
from ..interfaces import AxiReadSignature
from .linear_shape import LinearShape

__all__ = ["RowFetch"]

INCR = 1


class RowFetch(wiring.Component):
    """Asks for rows of a token, layer 0 first, of each table, each in one burst, ``reads`` at a
    time.

    Bursts may be answered in any order and their beats interleaved. Latency: AR valid two cycles
    after ``start``, then a burst per cycle while an id is free; beats are passed on in their cycle.
    Back-pressure: a burst on AR holds while stalled; R waits in cycles with ``stall``. Errors: a
    row with a SLVERR or DECERR beat lands as ``failed``; it is not asked for again.
    Reset: nothing asked for; the interconnect is reset together with this block.

    Parameters
    ----------
    shape: LinearShape. first_id: its AXI ids are ``first_id`` .. ``first_id + reads - 1``.

    Members
    -------
    start: pulse by table, a token's rows, none of another being in flight. address: by table, of
        the token's rows, stable from the next cycle on while ``asking``.
    stop: no further burst is asked for in this cycle. cancel: pulse, nor ever, until ``start``.
    stall: no beat is taken in this cycle.
    beat: a beat ``index`` of the row of ``layer`` from ``table``.
    landed: its row is complete with this cycle's beat, ``failed`` with an error.
    asking: rows are still to be asked for. in_flight: bursts are under way.
    axi: read channels.
    """

    def __init__(self, shape: LinearShape, *, first_id: int, reads: int):
        self.shape, self.first_id, self.reads = shape, first_id, reads
        g = shape.geometry
        self.layout = LexicalLayout(g, shape.options)
        layer, tables = unsigned(g.layer_bits), len(shape.tables)
        super().__init__({
            "start": In(tables), "address": In(data.ArrayLayout(g.config.axi_addr_bits, tables)),
            "stop": In(1), "cancel": In(1), "stall": In(1),
            "beat": Out(data.StructLayout({
                "valid": 1, "table": shape.table_bits, "layer": layer,
                "index": range(max(2, self.layout.row_beats)),
                "data": g.config.axi_data_bits})),
            "landed": Out(data.StructLayout({
                "valid": 1, "table": shape.table_bits, "layer": layer, "failed": 1})),
            "asking": Out(1), "in_flight": Out(1), "axi": Out(AxiReadSignature(g))})

    def elaborate(self, platform):
        m = Module()
        g, layout, count = self.shape.geometry, self.layout, self.reads
        ar, r = self.axi.ar, self.axi.r
        entry = data.StructLayout({"layer": unsigned(g.layer_bits), "table": self.shape.table_bits,
                                   "received": range(max(2, layout.row_beats)), "error": 1})
        entries = [Signal(entry, name=f"row_{i}") for i in range(count)]
        used = Signal(count)
        m.d.comb += self.in_flight.eq(used.any())

        free = Signal(range(max(2, count)))
        for i in reversed(range(count)):
            with m.If(~used[i]):
                m.d.comb += free.eq(i)
        # Of the tables with rows still to be asked for, that whose next row is of the lowest layer.
        wanted = Signal(len(self.shape.tables))
        nexts = [Signal(g.layer_bits, name=f"next{table}") for table in range(len(wanted))]
        following, table = Signal(g.layer_bits), Signal(self.shape.table_bits)
        layer, of, address = nexts[0], C(0), self.address[0]
        for at in range(1, len(wanted)):
            sooner = Signal(name=f"sooner{at}")
            m.d.comb += sooner.eq(wanted[at] & (~wanted[:at].any() | (nexts[at] < layer)))
            layer, of = Mux(sooner, nexts[at], layer), Mux(sooner, at, of)
            address = Mux(sooner, self.address[at], address)
        m.d.comb += [following.eq(layer), table.eq(of), self.asking.eq(wanted.any())]
        stride_bits = layout.row_stride.bit_length() - 1
        m.d.comb += [
            ar.payload.len.eq(layout.row_beats - 1), ar.payload.burst.eq(INCR),
            ar.payload.size.eq(g.axi_bytes.bit_length() - 1)]
        with m.If(~ar.valid | ar.ready):
            m.d.sync += ar.valid.eq(0)
            with m.If(self.asking & ~self.stop & ~used.all()):
                m.d.sync += [
                    ar.valid.eq(1), ar.payload.id.eq(self.first_id + free),
                    ar.payload.addr.eq(address | Cat(Const(0, stride_bits), following))]
                for of_table, after in enumerate(nexts):
                    with m.If(table == of_table):
                        m.d.sync += after.eq(after + 1)
                        with m.If(following == self.shape.layers - 1):
                            m.d.sync += wanted[of_table].eq(0)
                for i in range(count):
                    with m.If(free == i):
                        m.d.sync += [used[i].eq(1), entries[i].layer.eq(following),
                                     entries[i].table.eq(table),
                                     entries[i].received.eq(0), entries[i].error.eq(0)]
        with m.If(self.cancel):
            m.d.sync += wanted.eq(0)
        for of_table, after in enumerate(nexts):
            with m.If(self.start[of_table]):
                m.d.sync += [wanted[of_table].eq(1), after.eq(0)]

        at = Signal(range(max(2, count)))
        m.d.comb += at.eq(r.payload.id - self.first_id)
        answered = Array(entries)[at]
        m.d.comb += [
            r.ready.eq(~self.stall), self.beat.valid.eq(r.valid & r.ready),
            self.beat.layer.eq(answered.layer), self.beat.index.eq(answered.received),
            self.beat.data.eq(r.payload.data),
            self.landed.valid.eq(self.beat.valid & r.payload.last),
            self.beat.table.eq(answered.table), self.landed.table.eq(answered.table),
            self.landed.layer.eq(answered.layer),
            self.landed.failed.eq(answered.error | r.payload.resp[1])]
        for i in range(count):
            with m.If(self.beat.valid & (at == i)):
                m.d.sync += [entries[i].received.eq(entries[i].received + 1),
                             entries[i].error.eq(self.landed.failed)]
                with m.If(r.payload.last):
                    m.d.sync += used[i].eq(0)
        return m
