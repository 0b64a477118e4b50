"""A prediction unit that predicts nothing."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring

from ..config import Geometry
from .ports import PredictionSignature

__all__ = ["NullPredictor"]


class NullPredictor(wiring.Component):
    """Answers every token and every observation with its ``end`` beat; discards rows.

    Latency: the ``end`` beat is valid the cycle after the last beat of the observation.
    Back-pressure: ``token`` and ``observe`` are taken while no ``end`` beat waits. Reset: nothing
    waits.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    See :class:`PredictionSignature`; settings and ``clear`` are ignored, counters stay 0.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        super().__init__(PredictionSignature(geometry))

    def elaborate(self, platform):
        m = Module()
        out, token, observe = self.candidates, self.token, self.observe
        m.d.comb += [
            self.load.ready.eq(1), self.weights.ready.eq(1), token.ready.eq(~out.valid),
            observe.ready.eq(~out.valid & ~token.valid), out.payload.end.eq(1),
            self.busy.eq(out.valid)]
        if self.geometry.looks_ahead:
            m.d.comb += self.ahead.ready.eq(1)
        with m.If(out.valid):
            m.d.sync += out.valid.eq(~out.ready)
        with m.Elif(token.valid | (observe.valid & observe.payload.last)):
            m.d.sync += [out.valid.eq(1), out.payload.layer.eq(
                Mux(token.valid, 0, observe.payload.layer + 1))]
        return m
