"""Writes a token's changed rows back to expert memory."""

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config.lexical_layout import LexicalLayout
from ..interfaces import AxiWriteSignature
from .linear_shape import LinearShape

__all__ = ["RowWriteBack"]

INCR = 1


class RowWriteBack(wiring.Component):
    """Writes the rows named by ``pending``, lowest layer first, each as one burst, all strobes set.

    All bursts have id 0, so that responses come in their order. Throughput: a row per its beats and
    three cycles more; bursts whose response is due are not limited in number. Back-pressure on AW
    and W is honoured, neither waits for the other's ready; B waits in cycles with ``stall``.
    Errors: a SLVERR or DECERR response is reported, the row is not sent again.
    Reset: nothing under way; the interconnect is reset together with this block.

    Parameters
    ----------
    shape: LinearShape

    Members
    -------
    pending: per layer, its row is to be written. go: rows may be begun.
    read, read_layer: ``row`` must answer in the next cycle, for that cycle; ``read`` is also the
        pulse by which ``pending`` is to lose this layer.
    address: of the token's rows, stable while ``pending`` or ``busy``.
    row: beats of a row. stall: no response is taken in this cycle.
    failed: the row of ``layer`` was refused. busy: a row is under way or its response is due.
    axi: write channels.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        g = shape.geometry
        self.layout = LexicalLayout(g, shape.options)
        layer = unsigned(g.layer_bits)
        super().__init__({
            "pending": In(shape.layers), "go": In(1), "read": Out(1), "read_layer": Out(layer),
            "address": In(g.config.axi_addr_bits),
            "row": In(data.ArrayLayout(g.config.axi_data_bits, self.layout.row_beats)),
            "stall": In(1), "failed": Out(data.StructLayout({"valid": 1, "layer": layer})),
            "busy": Out(1), "axi": Out(AxiWriteSignature(g))})

    def elaborate(self, platform):
        m = Module()
        g, layout = self.shape.geometry, self.layout
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        due = Signal(self.shape.layers)  # responses, lowest layer first
        layer = Signal(g.layer_bits)
        rest, left = Signal.like(self.row), Signal(range(max(2, layout.row_beats)))
        sending = Signal()
        stride_bits = layout.row_stride.bit_length() - 1
        m.d.comb += [
            aw.payload.len.eq(layout.row_beats - 1), aw.payload.burst.eq(INCR),
            aw.payload.size.eq(g.axi_bytes.bit_length() - 1),
            w.payload.data.eq(rest[0]), w.payload.strb.eq(~0), w.payload.last.eq(left == 0),
            self.busy.eq(sending | due.any())]
        for at in reversed(range(self.shape.layers)):
            with m.If(self.pending[at]):
                m.d.comb += self.read_layer.eq(at)

        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(w.valid & w.ready):
            m.d.sync += [left.eq(left - 1), Cat(*rest).eq(Cat(*rest) >> g.config.axi_data_bits),
                         w.valid.eq(~w.payload.last)]
        with m.FSM():
            with m.State("IDLE"), m.If(self.go & self.pending.any()):
                m.d.comb += self.read.eq(1)
                m.d.sync += [layer.eq(self.read_layer), sending.eq(1)]
                m.next = "LOAD"
            with m.State("LOAD"):
                m.d.sync += [
                    rest.eq(self.row), left.eq(layout.row_beats - 1), aw.valid.eq(1), w.valid.eq(1),
                    aw.payload.addr.eq(self.address | Cat(Const(0, stride_bits), layer)),
                    due.bit_select(layer, 1).eq(1)]
                m.next = "SEND"
            with m.State("SEND"), m.If(~aw.valid & ~w.valid):
                m.d.sync += sending.eq(0)
                m.next = "IDLE"

        m.d.comb += [b.ready.eq(~self.stall),
                     self.failed.valid.eq(b.valid & b.ready & b.payload.resp[1])]
        for at in reversed(range(self.shape.layers)):
            with m.If(due[at]):
                m.d.comb += self.failed.layer.eq(at)
        with m.If(b.valid & b.ready):
            m.d.sync += due.bit_select(self.failed.layer, 1).eq(0)
        return m
