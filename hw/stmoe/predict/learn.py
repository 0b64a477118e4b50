"""Updates a row of the correlation table, now that the next layer's experts are known."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry

__all__ = ["RowLearner", "popcount", "stored_row"]


def stored_row(g: Geometry) -> data.ArrayLayout:
    """A row as the table's memory holds it."""
    id_bits = max(1, (g.config.model.experts - 1).bit_length())
    return data.ArrayLayout(data.StructLayout({"id": id_bits, "conf": 2}), g.config.model.top_k)


def popcount(bits: list):
    """Number of set bits, as a balanced tree."""
    if not bits:
        return 0
    while len(bits) > 1:
        bits = [bits[i] + bits[i + 1] if i + 1 < len(bits) else bits[i]
                for i in range(0, len(bits), 2)]
    return bits[0]


class RowLearner(wiring.Component):
    """Entry routed: confidence + 1, at most 3; else above 0: minus 1; else replaced.

    The n-th replaced entry becomes the n-th routed expert, in rank order, that the row lacks, at
    confidence 2; without one it stays. Latency three cycles, a row per cycle, no back-pressure.
    Reset: pipeline empty.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    valid, address, row: row to update.
    routed, count: experts of the next layer in rank order, the first ``count`` of them; stable.
    out_valid, out_address, out_row: the row to write back.
    active: a row is under way.
    """

    def __init__(self, geometry: Geometry, address_bits: int):
        self.geometry, self.address_bits = geometry, address_bits
        row = stored_row(geometry)
        k = geometry.config.model.top_k
        super().__init__({
            "valid": In(1), "address": In(address_bits), "row": In(row),
            "routed": In(data.ArrayLayout(row.elem_shape["id"].shape, k)),
            "count": In(range(k + 1)),
            "out_valid": Out(1), "out_address": Out(address_bits), "out_row": Out(row),
            "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        ways = range(self.geometry.config.model.top_k)
        ranks = Signal(len(ways))  # which ranks are routed
        m.d.comb += ranks.eq(Cat(self.count > rank for rank in ways))

        valid = Signal(2)
        m.d.sync += [valid.eq(Cat(self.valid, valid[0])), self.out_valid.eq(valid[1])]
        m.d.comb += self.active.eq(self.valid | valid.any() | self.out_valid)

        compared, compared_address = Signal.like(self.row), Signal(self.address_bits)
        hit, absent = Signal(len(ways)), Signal(len(ways))
        equal = [[ranks[rank] & (self.row[way].id == self.routed[rank]) for rank in ways]
                 for way in ways]
        m.d.sync += [
            compared.eq(self.row), compared_address.eq(self.address),
            hit.eq(Cat(Cat(*equal[way]).any() for way in ways)),
            absent.eq(ranks & ~Cat(Cat(*(equal[way][rank] for way in ways)).any()
                                   for rank in ways))]

        moved, moved_address = Signal.like(self.row), Signal(self.address_bits)
        replaced, missing = Signal(len(ways)), Signal(len(ways))
        replace = Signal(len(ways))
        nth_replaced = [Signal(range(len(ways) + 1), name=f"nth_replaced{i}") for i in ways]
        nth_missing = [Signal(range(len(ways) + 1), name=f"nth_missing{i}") for i in ways]
        m.d.comb += replace.eq(~hit & Cat(compared[way].conf == 0 for way in ways))
        m.d.sync += [moved_address.eq(compared_address), replaced.eq(replace), missing.eq(absent)]
        for way in ways:
            conf = compared[way].conf
            m.d.sync += [
                moved[way].id.eq(compared[way].id),
                moved[way].conf.eq(Mux(hit[way], Mux(conf == 3, 3, conf + 1),
                                       Mux(conf == 0, 0, conf - 1))),
                nth_replaced[way].eq(popcount([replace[i] for i in range(way)])),
                nth_missing[way].eq(popcount([absent[i] for i in range(way)]))]

        m.d.sync += self.out_address.eq(moved_address)
        for way in ways:
            take = Signal(len(ways), name=f"take{way}")
            m.d.comb += take.eq(Cat(replaced[way] & missing[rank]
                                    & (nth_replaced[way] == nth_missing[rank]) for rank in ways))
            new = reduce(or_, (Mux(take[rank], self.routed[rank], 0) for rank in ways))
            m.d.sync += self.out_row[way].eq(moved[way])
            with m.If(take.any()):
                m.d.sync += [self.out_row[way].id.eq(new), self.out_row[way].conf.eq(2)]
        return m
