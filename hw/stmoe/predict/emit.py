"""Puts the predicted experts out in falling score."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import candidate
from .ports import TABLE_SCORE_BITS

__all__ = ["CandidateEmitter"]

SHARED_SCORE = 63  # of shared units: they are always used
GROUP = 16  # experts per group of the two-level priority encoder


class CandidateEmitter(wiring.Component):
    """Scans the scores from the highest possible one down to the threshold.

    Shared units go first, with score 63, then the scan: one cycle per score level and one per
    candidate, lower id first, then the ``end`` beat. Back-pressure is honoured: the payload holds
    while stalled. Reset: idle.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    start, predict, layer: pulse, begins with the candidates of ``layer``; without ``predict`` there
        is the ``end`` beat only. Only while not ``active``.
    final: scores are final; the scan waits for it.
    threshold: least score that is emitted.
    level, match: asks for the experts with a score, answered in the same cycle.
    candidates: the output stream.
    active: beats are still to be formed; one already formed may wait in ``candidates``.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "start": In(1), "predict": In(1), "layer": In(g.layer_bits), "final": In(1),
            "threshold": In(TABLE_SCORE_BITS), "level": Out(TABLE_SCORE_BITS),
            "match": In(g.config.model.experts),
            "candidates": Out(stream.Signature(candidate(g))), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        g, model = self.geometry, self.geometry.config.model
        out = self.candidates
        top = 3 * model.top_k + 2

        mask = Signal(model.experts)
        first, rest, found = self._lowest(m, mask)
        level = Signal(TABLE_SCORE_BITS)
        score, exhausted = Signal(TABLE_SCORE_BITS), Signal()
        unit = Signal(range(max(2, model.shared_units)))
        room = Signal()
        m.d.comb += [room.eq(~out.valid | out.ready), self.level.eq(level)]

        def emit(expert, value, end=0):
            m.d.sync += [out.valid.eq(1), out.payload.expert.eq(expert),
                         out.payload.score.eq(value), out.payload.end.eq(end)]

        with m.If(out.ready):
            m.d.sync += out.valid.eq(0)
        layer = Signal(g.layer_bits)
        with m.If(room):
            m.d.sync += out.payload.layer.eq(layer)
        with m.FSM() as fsm:
            m.d.comb += self.active.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [level.eq(top), exhausted.eq(self.threshold > top), unit.eq(0),
                             mask.eq(0)]
                with m.If(self.start):
                    m.d.sync += layer.eq(self.layer)
                    with m.If(~self.predict):
                        m.next = "END"
                    with m.Else():
                        m.next = "SHARED" if model.shared_units else "SCAN"
            if model.shared_units:
                with m.State("SHARED"), m.If(room):
                    emit(model.experts + unit, SHARED_SCORE)
                    m.d.sync += unit.eq(unit + 1)
                    with m.If(unit == model.shared_units - 1):
                        m.next = "SCAN"
            with m.State("SCAN"):
                with m.If(found):
                    with m.If(room):
                        emit(first, score)
                        m.d.sync += mask.eq(rest)
                with m.Elif(exhausted):
                    m.next = "END"
                with m.Elif(self.final):
                    m.d.sync += [mask.eq(self.match), score.eq(level), level.eq(level - 1),
                                 exhausted.eq(level <= self.threshold)]
            with m.State("END"), m.If(room):
                emit(0, 0, 1)
                m.next = "IDLE"
        return m

    @staticmethod
    def _lowest(m, mask):
        """Index of the lowest set bit, the mask without it, and whether there is any."""
        def lowest(bits, name):
            one = Signal(len(bits), name=name)
            m.d.comb += one.eq(bits & -bits)
            return one

        def encode(one):
            width = max(1, (len(one) - 1).bit_length())
            return Cat(Cat(*(one[i] for i in range(len(one)) if i >> b & 1)).any()
                       for b in range(width))

        groups = [mask[at:at + GROUP] for at in range(0, len(mask), GROUP)]
        filled = Signal(len(groups))
        m.d.comb += filled.eq(Cat(group.any() for group in groups))
        group = lowest(filled, "group")
        chosen = Signal(GROUP)
        m.d.comb += chosen.eq(reduce(or_, (Mux(group[i], bits, 0)
                                           for i, bits in enumerate(groups))))
        one = lowest(chosen, "one")
        index, rest = Signal(range(max(2, len(mask)))), Signal(len(mask))
        high = encode(group) if len(groups) > 1 else 0
        m.d.comb += [
            index.eq(Cat(encode(one), high)),
            rest.eq(mask & ~Cat(Mux(group[i], one, 0)[:len(bits)]
                                for i, bits in enumerate(groups)))]
        return index, rest, filled.any()
