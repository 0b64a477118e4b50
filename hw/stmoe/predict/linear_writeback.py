"""Writes a token's changed rows back to expert memory."""

from amaranth.hdl import Array, Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config.lexical_layout import LexicalLayout
from ..interfaces import AxiWriteSignature
from .linear_shape import LinearShape

__all__ = ["RowWriteBack"]

INCR = 1


class RowWriteBack(wiring.Component):
    """Writes the rows named by ``pending``, table by table, lowest layer first, each as one burst,
    all strobes set.

    All bursts have id 0, so that responses come in their order. Throughput: a row per its beats and
    four cycles more; bursts whose response is due are not limited in number. Back-pressure on AW
    and W is honoured, neither waits for the other's ready; B waits in cycles with ``stall``.
    Errors: a SLVERR or DECERR response is reported, the row is not sent again.
    Reset: nothing under way; the interconnect is reset together with this block.

    Parameters
    ----------
    shape: LinearShape

    Members
    -------
    pending: per table and layer, its row is to be written. go: rows may be begun.
    read, read_table, read_layer: ``row`` must answer in the next cycle, for that cycle; ``read`` is
        also the pulse by which ``pending`` is to lose this row.
    address: by table, of the token's rows, stable while ``pending`` or ``busy``.
    row: beats of a row. stall: no response is taken in this cycle.
    failed: the row of ``layer`` was refused. busy: a row is under way or its response is due.
    axi: write channels.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        g = shape.geometry
        self.layout = LexicalLayout(g, shape.options)
        layer, tables = unsigned(g.layer_bits), len(shape.tables)
        super().__init__({
            "pending": In(data.ArrayLayout(shape.layers, tables)), "go": In(1), "read": Out(1),
            "read_table": Out(shape.table_bits), "read_layer": Out(layer),
            "address": In(data.ArrayLayout(g.config.axi_addr_bits, tables)),
            "row": In(data.ArrayLayout(g.config.axi_data_bits, self.layout.row_beats)),
            "stall": In(1), "failed": Out(data.StructLayout({"valid": 1, "layer": layer})),
            "busy": Out(1), "axi": Out(AxiWriteSignature(g))})

    def elaborate(self, platform):
        m = Module()
        g, layout = self.shape.geometry, self.layout
        tables = len(self.shape.tables)
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        pending = Signal(len(self.pending.as_value()))
        due = Signal(len(pending))  # responses, in the order of the rows
        row, first = Signal(range(max(2, len(due)))), Signal(range(max(2, len(due))))
        rest, left = Signal.like(self.row), Signal(range(max(2, layout.row_beats)))
        sending = Signal()
        table, layer = Signal.like(self.read_table), Signal.like(self.read_layer)
        stride_bits = layout.row_stride.bit_length() - 1
        m.d.comb += [
            aw.payload.len.eq(layout.row_beats - 1), aw.payload.burst.eq(INCR),
            aw.payload.size.eq(g.axi_bytes.bit_length() - 1),
            w.payload.data.eq(rest[0]), w.payload.strb.eq(~0), w.payload.last.eq(left == 0),
            pending.eq(self.pending), self.busy.eq(sending | due.any())]
        for at in reversed(range(len(due))):
            with m.If(pending[at]):
                m.d.comb += [first.eq(at), table.eq(at // self.shape.layers),
                             layer.eq(at % self.shape.layers)]
        address = Signal(g.config.axi_addr_bits)

        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(w.valid & w.ready):
            m.d.sync += [left.eq(left - 1), Cat(*rest).eq(Cat(*rest) >> g.config.axi_data_bits),
                         w.valid.eq(~w.payload.last)]
        with m.FSM():
            with m.State("IDLE"), m.If(self.go & pending.any()):
                m.d.sync += [row.eq(first), self.read_table.eq(table), self.read_layer.eq(layer),
                             sending.eq(1)]
                m.next = "READ"
            with m.State("READ"), m.If(self.go):
                m.d.comb += self.read.eq(1)
                m.d.sync += address.eq(Array(self.address[t] for t in range(tables))[
                    self.read_table])
                m.next = "LOAD"
            with m.State("LOAD"):
                m.d.sync += [
                    rest.eq(self.row), left.eq(layout.row_beats - 1), aw.valid.eq(1), w.valid.eq(1),
                    aw.payload.addr.eq(address | Cat(Const(0, stride_bits), self.read_layer)),
                    due.bit_select(row, 1).eq(1)]
                m.next = "SEND"
            with m.State("SEND"), m.If(~aw.valid & ~w.valid):
                m.d.sync += sending.eq(0)
                m.next = "IDLE"

        m.d.comb += [b.ready.eq(~self.stall),
                     self.failed.valid.eq(b.valid & b.ready & b.payload.resp[1])]
        answered = Signal.like(row)
        for at in reversed(range(len(due))):
            with m.If(due[at]):
                m.d.comb += [answered.eq(at), self.failed.layer.eq(at % self.shape.layers)]
        with m.If(b.valid & b.ready):
            m.d.sync += due.bit_select(answered, 1).eq(0)
        return m
