"""Writes the rows of a layer that were learned back to expert memory."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config.weight_layout import WeightLayout
from ..interfaces import AxiWriteSignature
from .linear_shape import LinearShape

__all__ = ["BlockWriteBack"]

INCR = 1


class BlockWriteBack(wiring.Component):
    """Keeps a list of the rows of one layer that changed, and writes each in one burst, all strobes
    set, in the order of the list.

    All bursts have one id, so that responses come in their order. Throughput: a row per its beats
    and four cycles more. Back-pressure on AW and W is honoured, neither waits for the other's
    ready; B waits in cycles with ``stall``. Errors: a SLVERR or DECERR response is reported, the
    row is not sent again.
    Reset: nothing listed; the interconnect is reset together with this block.

    Parameters
    ----------
    shape: LinearShape

    Members
    -------
    changed, changed_row: pulse, this row of ``layer`` is to be written, as it is from the next
        cycle on; of one layer at most once each, and of another one only when ``settled``.
    layer: of the rows; stable while not ``settled``.
    base: byte address of the blocks; stable likewise.
    read, read_row: ``row`` must answer in the next cycle, for that cycle, to a cycle with
        ``granted``; stays until then.
    row: beats of a row. stall: no response is taken in this cycle.
    failed: a row was refused.
    settled: every row that was listed is in memory, or refused.
    axi: write channels.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        g = shape.geometry
        self.layout = WeightLayout(g, shape.options)
        row = range(max(2, self.layout.rows))
        super().__init__({
            "changed": In(1), "changed_row": In(row), "layer": In(unsigned(g.layer_bits)),
            "base": In(g.config.axi_addr_bits), "read": Out(1), "read_row": Out(row),
            "granted": In(1),
            "row": In(data.ArrayLayout(g.config.axi_data_bits, self.layout.row_beats)),
            "stall": In(1), "failed": Out(1), "settled": Out(1), "axi": Out(AxiWriteSignature(g))})

    def elaborate(self, platform):
        m = Module()
        g, layout = self.shape.geometry, self.layout
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        options = self.shape.options
        most = self.shape.rows_added - len(options.tables)  # rows of a layer that learn
        m.submodules.list = rows = Memory(shape=len(self.changed_row), depth=most, init=[])
        append, read = rows.write_port(), rows.read_port()
        listed, sent, due = (Signal(range(most + 1), name=name)
                             for name in ("listed", "sent", "due"))
        rest, left = Signal.like(self.row), Signal(range(max(2, layout.row_beats)))
        begins, ended = Signal(), Signal()  # a burst; a response
        m.d.comb += [append.en.eq(self.changed), append.addr.eq(listed),
                     append.data.eq(self.changed_row), read.addr.eq(sent),
                     self.read_row.eq(read.data),
                     aw.payload.len.eq(layout.row_beats - 1), aw.payload.burst.eq(INCR),
                     aw.payload.size.eq(g.axi_bytes.bit_length() - 1),
                     w.payload.data.eq(rest[0]), w.payload.strb.eq(~0),
                     w.payload.last.eq(left == 0)]
        with m.If(self.changed):
            m.d.sync += listed.eq(listed + 1)
        with m.Elif(self.settled):
            m.d.sync += [listed.eq(0), sent.eq(0)]

        within_bits = layout.burst_rows.bit_length() - 1
        burst_bits = (layout.bursts - 1).bit_length()
        row_bytes = layout.row_beats * g.axi_bytes
        stride_bits = layout.burst_stride.bit_length() - 1
        within = Signal(stride_bits + 1)
        m.d.comb += within.eq(self.read_row[:within_bits] * row_bytes)
        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(w.valid & w.ready):
            m.d.sync += [left.eq(left - 1), Cat(*rest).eq(Cat(*rest) >> g.config.axi_data_bits),
                         w.valid.eq(~w.payload.last)]
        with m.FSM() as fsm:
            m.d.comb += self.settled.eq(fsm.ongoing("LIST") & (sent == listed) & (due == 0))
            with m.State("LIST"):
                m.d.comb += read.en.eq(1)
                with m.If(sent != listed):
                    m.next = "ROW"
            with m.State("ROW"):
                m.d.comb += self.read.eq(1)
                with m.If(self.granted):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += begins.eq(1)
                m.d.sync += [
                    rest.eq(self.row), left.eq(layout.row_beats - 1), aw.valid.eq(1), w.valid.eq(1),
                    aw.payload.addr.eq(self.base + Cat(
                        within[:stride_bits],
                        (self.read_row >> within_bits)[:burst_bits], self.layer)),
                    sent.eq(sent + 1)]
                m.next = "SEND"
            with m.State("SEND"), m.If(~aw.valid & ~w.valid):
                m.next = "LIST"

        m.d.comb += [b.ready.eq(~self.stall), ended.eq(b.valid & b.ready),
                     self.failed.eq(ended & b.payload.resp[1])]
        m.d.sync += due.eq(due + begins - ended)
        return m
