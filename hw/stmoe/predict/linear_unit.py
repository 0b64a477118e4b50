"""The learned predictor behind the interface of all prediction units."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring

from ..config import Geometry
from .linear import LinearPredictor
from .ports import PredictionSignature

__all__ = ["LinearUnit"]


class LinearUnit(wiring.Component):
    """:class:`LinearPredictor` with the configuration's options; timing and reset are its.

    Words of weight rows are put together here, a row is written with its last word. ``clear``: the
    next token begins a sequence. ``load`` is taken and forgotten.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    See :class:`PredictionSignature`; port: see :class:`LinearPredictor`.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.predictor = LinearPredictor(geometry, geometry.config.linear)
        members = dict(PredictionSignature(geometry).members)
        if "port" in self.predictor.signature.members:
            members["port"] = self.predictor.signature.members["port"]
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.predictor = unit = self.predictor
        options, model = self.geometry.config.linear, self.geometry.config.model
        if "port" in self.signature.members:
            wiring.connect(m, unit.port, wiring.flipped(self.port))
        wiring.connect(m, wiring.flipped(self.observe), unit.observe)

        fresh = Signal()
        with m.If(self.clear):
            m.d.sync += fresh.eq(1)
        with m.Elif(self.token.valid & self.token.ready):
            m.d.sync += fresh.eq(0)
        settings = self.settings
        m.d.comb += [
            unit.token.valid.eq(self.token.valid), self.token.ready.eq(unit.token.ready),
            *(unit.token.payload[name].eq(self.token.payload[name])
              for name in ("identity", "known")),
            unit.token.payload.first.eq(self.token.payload.first | fresh | self.clear),
            self.candidates.valid.eq(unit.candidates.valid),
            unit.candidates.ready.eq(self.candidates.ready),
            *(self.candidates.payload[name].eq(unit.candidates.payload[name])
              for name in ("layer", "expert", "score", "end")),
            unit.enable.eq(settings.enable), unit.threshold.eq(settings.linear_threshold),
            unit.limit.eq(settings.limit), unit.layers.eq(settings.layers),
            unit.experts.eq(settings.experts), self.load.ready.eq(1),
            self.weight_reads.eq(unit.row_reads), self.weight_writes.eq(unit.row_writes),
            *(getattr(self, name).eq(getattr(unit, name))
              for name in ("rows_added", "predicted", "busy"))]

        word = self.weights.payload
        words = options.row_words(model)
        kept = Signal(64 * (words - 1))
        row = Cat(kept, word.data)
        m.d.comb += [unit.load.payload.address.eq(word.row), unit.load.payload.row.eq(row),
                     unit.load.valid.eq(self.weights.valid & word.last),
                     self.weights.ready.eq(~word.last | unit.load.ready)]
        with m.If(self.weights.valid & self.weights.ready):
            m.d.sync += kept.eq(row[64:])
        return m
