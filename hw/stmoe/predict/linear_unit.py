"""The learned predictor behind the interface of all prediction units."""

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import wiring

from ..config import Geometry
from .linear import LinearPredictor
from .ports import PredictionSignature

__all__ = ["LinearUnit"]


class LinearUnit(wiring.Component):
    """:class:`LinearPredictor` with the configuration's options; timing and reset are its.

    Words of weight rows are put together here; a row is written before what comes after its last
    word is heard. ``clear``: the next token begins a sequence; rows of expert memory that are on
    chip are written back, and a token is not taken before they are. ``load`` is taken and
    forgotten.

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
        writing = Signal()  # what was learnt, after ``clear``
        outside: Value = C(0)  # rows are on their way
        if "port" in self.signature.members:
            inner, port = unit.port, self.port
            wiring.connect(m, inner.read, wiring.flipped(port.read))
            wiring.connect(m, inner.write, wiring.flipped(port.write))
            m.d.comb += [
                inner.base.eq(port.base), inner.flush.eq(self.clear | port.flush),
                *(getattr(port, name).eq(getattr(inner, name))
                  for name in ("busy", "error", "beats_read", "beats_written"))]
            outside = inner.busy
            m.d.sync += writing.eq(self.clear | (writing & inner.busy))
        whole = Signal()  # a row waits to be written, and all else for that
        m.d.comb += [
            unit.observe.payload.eq(self.observe.payload),
            unit.observe.valid.eq(self.observe.valid & ~whole),
            self.observe.ready.eq(unit.observe.ready & ~whole)]
        if self.geometry.looks_ahead:
            wiring.connect(m, wiring.flipped(self.ahead), unit.ahead)
            m.d.comb += [unit.ahead_due.eq(self.ahead_due),
                         unit.use_ahead.eq(self.settings.lookahead)]

        fresh = Signal()
        with m.If(self.clear):
            m.d.sync += fresh.eq(1)
        with m.Elif(self.token.valid & self.token.ready):
            m.d.sync += fresh.eq(0)
        settings = self.settings
        m.d.comb += [
            unit.token.valid.eq(self.token.valid & ~writing & ~whole),
            self.token.ready.eq(unit.token.ready & ~writing & ~whole),
            self.busy.eq(unit.busy | writing | whole | outside),
            *(unit.token.payload[name].eq(self.token.payload[name])
              for name in ("identity", "known")),
            unit.token.payload.first.eq(self.token.payload.first | fresh | self.clear),
            self.candidates.valid.eq(unit.candidates.valid),
            unit.candidates.ready.eq(self.candidates.ready),
            *(self.candidates.payload[name].eq(unit.candidates.payload[name])
              for name in ("layer", "expert", "score", "end")),
            unit.enable.eq(settings.enable), unit.threshold.eq(settings.linear_threshold),
            unit.threshold_deep.eq(settings.deep_threshold), unit.depth.eq(settings.depth),
            unit.token_depth.eq(settings.token_depth), unit.guess.eq(settings.guess),
            unit.limit.eq(settings.limit), unit.layers.eq(settings.layers),
            unit.experts.eq(settings.experts), self.load.ready.eq(1),
            self.weight_reads.eq(unit.row_reads), self.weight_writes.eq(unit.row_writes),
            *(getattr(self, name).eq(getattr(unit, name))
              for name in ("rows_added", "predicted"))]

        word = self.weights.payload
        row = Signal(64 * options.row_words(model))
        m.d.comb += [unit.load.payload.row.eq(row), unit.load.valid.eq(whole),
                     self.weights.ready.eq(~whole)]
        with m.If(self.weights.valid & self.weights.ready):
            m.d.sync += [row.eq(Cat(row, word.data)[64:]), unit.load.payload.address.eq(word.row),
                         whole.eq(word.last)]
        with m.If(unit.load.valid & unit.load.ready):
            m.d.sync += whole.eq(0)
        return m
