"""A prediction unit that predicts nothing."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from ..config import Geometry
from .ports import PredictionSignature

__all__ = ["NullPredictor"]


class NullPredictor(wiring.Component):
    """Answers every observation with its ``end`` beat; discards table rows.

    Latency: the ``end`` beat is valid the cycle after the last beat of the observation.
    Back-pressure: ``observe`` is taken while no ``end`` beat waits. Reset: nothing waits.

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
        out = self.candidates
        m.d.comb += [self.load.ready.eq(1), self.observe.ready.eq(~out.valid),
                     out.payload.end.eq(1), self.busy.eq(out.valid)]
        with m.If(out.valid):
            m.d.sync += out.valid.eq(~out.ready)
        with m.Elif(self.observe.valid & self.observe.payload.last):
            m.d.sync += [out.valid.eq(1), out.payload.layer.eq(self.observe.payload.layer + 1)]
        return m
