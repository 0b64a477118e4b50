"""The expert prediction unit: predictors that were generated, one of them chosen at run time."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..config import Geometry
from .linear_unit import LinearUnit
from .null import NullPredictor
from .ports import COUNTERS, PredictionSignature
from .table import TablePredictor

__all__ = ["UNITS", "PredictionUnit"]

UNITS: dict[str, type[wiring.Component]] = {"table": TablePredictor, "linear": LinearUnit}
"""Predictors by the name that the configuration has for them; ``select`` counts in this order."""


class PredictionUnit(wiring.Component):
    """Passes everything on to the predictor that is selected; rows go to all.

    A predictor is told of nothing while another is selected: what it has learned stays, its
    history is cleared when it is selected again. A predictor that was not generated is replaced by
    the first that was; without any, by :class:`NullPredictor`. Latency, throughput, back-pressure:
    the chosen one's, nothing is added. Reset: the first.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    select: number of the predictor in :data:`UNITS`; stable while ``busy`` or a beat waits.
    See :class:`PredictionSignature`; port: see :class:`LinearUnit`.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        names = geometry.config.predictor.split("+")
        self.units = {number: unit(geometry)
                      for number, (name, unit) in enumerate(UNITS.items()) if name in names}
        if not self.units:
            self.units = {0: NullPredictor(geometry)}
        members = {**PredictionSignature(geometry).members, "select": In(2)}
        self._streaming = [unit for unit in self.units.values()
                           if "port" in unit.signature.members]
        for unit in self._streaming:
            members["port"] = unit.signature.members["port"]
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        for unit in self._streaming:
            wiring.connect(m, unit.port, wiring.flipped(self.port))
        before = Signal.like(self.select)
        m.d.sync += before.eq(self.select)
        first = next(iter(self.units))
        for name in ("load", "weights"):  # who has no use for them is always ready
            m.d.comb += getattr(self, name).ready.eq(
                Cat(getattr(unit, name).ready for unit in self.units.values()).all())
        for number, unit in self.units.items():
            m.submodules[f"unit{number}"] = unit
            chosen = Signal(name=f"chosen{number}", init=number == first)
            others = Cat(self.select == other for other in self.units if other != first)
            m.d.sync += chosen.eq(~others.any() if number == first else self.select == number)
            m.d.comb += [
                unit.settings.eq(self.settings),
                unit.clear.eq((self.clear & chosen) | (self.select != before)),
                unit.load.valid.eq(self.load.valid), unit.weights.valid.eq(self.weights.valid),
                *(getattr(unit, name).payload.eq(getattr(self, name).payload)
                  for name in ("load", "weights", "token", "observe"))]
            if self.geometry.looks_ahead:
                m.d.comb += [unit.ahead.payload.eq(self.ahead.payload),
                             unit.ahead_due.eq(self.ahead_due)]
            with m.If(chosen):
                m.d.comb += [
                    unit.token.valid.eq(self.token.valid), self.token.ready.eq(unit.token.ready),
                    unit.observe.valid.eq(self.observe.valid),
                    self.observe.ready.eq(unit.observe.ready),
                    self.candidates.payload.eq(unit.candidates.payload),
                    self.candidates.valid.eq(unit.candidates.valid),
                    unit.candidates.ready.eq(self.candidates.ready),
                    *(getattr(self, name).eq(getattr(unit, name))
                      for name in (*COUNTERS, "busy"))]
                if self.geometry.looks_ahead:
                    m.d.comb += [unit.ahead.valid.eq(self.ahead.valid),
                                 self.ahead.ready.eq(unit.ahead.ready)]
        return m
