"""AXI bursts cut into stretches of one row."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..memory_port import MemorySignature
from .part import SdramPart

__all__ = ["RowSegments", "segment"]


def segment(part: SdramPart, port: MemorySignature) -> data.StructLayout:
    """Consecutive beats within a row, ``beats`` of them; ``last`` of their AXI burst.

    ``column`` is that of a beat. ``outside``: beyond the part, to be answered by an error.
    """
    columns = part.column_bits - (port.data_bits // part.data_bits).bit_length() + 1
    return data.StructLayout({
        "bank": part.bank_bits, "row": part.row_bits, "column": columns, "beats": columns + 1,
        "id": port.id_bits, "writes": 1, "last": 1, "outside": 1})


class RowSegments(wiring.Component):
    """Takes bursts of whole beats from AR and AW, by turns where both wait; gives their segments.

    Consecutive rows are in consecutive banks, so that the next can be opened while one is read. A
    segment per cycle, in the cycle after its burst was taken at the earliest. Back-pressure is
    honoured. Reset: no burst.

    Parameters
    ----------
    part: SdramPart. port: of the bursts.

    Members
    -------
    ar, aw: streams of requests. out: stream of :func:`segment`.
    """

    def __init__(self, part: SdramPart, port: MemorySignature):
        self.part, self.port = part, port
        self.beat = (port.data_bits // 8).bit_length() - 1  # log2 of its bytes
        request = port.members["ar"].signature
        super().__init__({"ar": In(request), "aw": In(request),
                          "out": Out(stream.Signature(segment(part, port)))})

    def elaborate(self, platform):
        m = Module()
        out, held = self.out.payload, Signal(self.ar.payload.shape())
        writes, held_valid, turn = Signal(), Signal(), Signal()
        inside = self.part.size.bit_length() - 1 - self.beat
        at = Signal(max(self.port.addr_bits - self.beat, inside + 1))
        left, room = Signal(9), Signal(len(out.column) + 1)
        free, take_write = Signal(), Signal()
        m.d.comb += [
            room.eq((1 << len(out.column)) - out.column),
            Cat(out.column, out.bank, out.row).eq(at), out.outside.eq(at[inside:] != 0),
            out.last.eq(left <= room), out.beats.eq(Mux(out.last, left, room)),
            out.id.eq(held.id), out.writes.eq(writes), self.out.valid.eq(held_valid),
            free.eq(~held_valid | (self.out.ready & out.last)),
            take_write.eq(self.aw.valid & (turn | ~self.ar.valid)),
            self.aw.ready.eq(free & take_write), self.ar.ready.eq(free & ~take_write)]
        with m.If(self.out.valid & self.out.ready):
            m.d.sync += [at.eq(at + out.beats), left.eq(left - out.beats)]
        with m.If(free):
            chosen = Mux(take_write, self.aw.payload, self.ar.payload)
            m.d.sync += [
                held.as_value().eq(chosen), writes.eq(take_write),
                held_valid.eq(self.ar.valid | self.aw.valid)]
            with m.If(self.ar.valid | self.aw.valid):
                m.d.sync += turn.eq(~take_write)
            taken = Signal(self.ar.payload.shape())
            m.d.comb += taken.as_value().eq(chosen)
            m.d.sync += [at.eq(taken.addr >> self.beat), left.eq(taken.len + 1)]
        return m
