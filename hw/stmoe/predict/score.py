"""Score accumulators of all experts, kept as bit planes."""

from functools import reduce
from operator import and_, or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from .ports import TABLE_SCORE_BITS

__all__ = ["ScorePlanes"]


class ScorePlanes(wiring.Component):
    """Adds one table row per cycle to the scores, and tells who has a given score.

    Plane b holds bit b of every expert's score, so that a row is added to all experts at once by
    a ripple of vector operations. A row is in the scores two cycles after ``valid``.
    Range: sums up to 63, which top_k rows of 3 and a history row of 2 reach for no top_k <= 16.
    No back-pressure. Reset: all scores 0.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    clear: all scores 0 the next cycle; not while rows are on their way.
    valid, ids, confidence: row to add; ids with a confidence above 0 are experts, and distinct.
    level, match: combinational, bit e of ``match`` set if the score of e is ``level``.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        model = g.config.model
        self.id_bits = max(1, (model.experts - 1).bit_length())
        super().__init__({
            "clear": In(1), "valid": In(1),
            "ids": In(data.ArrayLayout(self.id_bits, model.top_k)),
            "confidence": In(data.ArrayLayout(2, model.top_k)),
            "level": In(TABLE_SCORE_BITS), "match": Out(model.experts)})

    def elaborate(self, platform):
        m = Module()
        experts, ways = self.geometry.config.model.experts, self.geometry.config.model.top_k
        planes = [Signal(experts, name=f"plane{b}") for b in range(TABLE_SCORE_BITS)]
        delta = [Signal(experts, name=f"delta{b}") for b in range(2)]
        adding = Signal()

        ones = []
        for way in range(ways):
            one = Signal(experts, name=f"one{way}")
            m.d.comb += one.eq(1 << self.ids[way])
            ones.append(one)
        m.d.sync += adding.eq(self.valid)
        with m.If(self.valid):
            m.d.sync += [
                delta[b].eq(reduce(or_, (Mux(self.confidence[way][b], ones[way], 0)
                                         for way in range(ways)))) for b in range(2)]

        carry = None
        sums = []
        for b, plane in enumerate(planes):
            terms = [term for term in (delta[b] if b < 2 else None, carry) if term is not None]
            total = Signal(experts, name=f"sum{b}")
            out = Signal(experts, name=f"carry{b}")
            m.d.comb += total.eq(reduce(lambda x, y: x ^ y, terms, plane))
            if len(terms) == 2:
                m.d.comb += out.eq((plane & terms[0]) | (plane & terms[1]) | (terms[0] & terms[1]))
            else:
                m.d.comb += out.eq(plane & terms[0])
            sums.append(total)
            carry = out
        with m.If(self.clear):
            m.d.sync += [plane.eq(0) for plane in planes]
        with m.Elif(adding):
            m.d.sync += Cat(*planes).eq(Cat(*sums))

        m.d.comb += self.match.eq(reduce(and_, (Mux(self.level[b], plane, ~plane)
                                                for b, plane in enumerate(planes))))
        return m
