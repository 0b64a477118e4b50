"""Score accumulators of the linear predictor."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .linear_shape import LinearShape

__all__ = ["RowSum"]


class RowSum(wiring.Component):
    """Prior and sum of rows, for every expert, exact.

    A row a cycle, in ``scores`` the next. No back-pressure. Reset: 0.

    Parameters
    ----------
    shape: LinearShape
    lanes: of ``term``, which is only there with look-ahead.

    Members
    -------
    clear: back to the prior; not together with ``valid``.
    valid, row: row to add.
    term: terms to add, for a group of experts; not together with ``valid``.
    scores: in units of 2**-fraction; hold until ``clear`` or ``valid``.
    """

    def __init__(self, shape: LinearShape, lanes: int = 4):
        self.shape, self.lanes = shape, lanes
        super().__init__({**({"term": In(shape.term(lanes))} if shape.options.lookahead else {}),
                          "clear": In(1), "valid": In(1), "row": In(shape.row),
                          "scores": Out(shape.scores)})

    def elaborate(self, platform):
        m = Module()
        for e in range(self.shape.experts):
            score = Signal(self.shape.scores.elem_shape, name=f"score{e}")
            m.d.comb += self.scores[e].eq(score)
            with m.If(self.clear):
                m.d.sync += score.eq(self.shape.prior)
            with m.Elif(self.valid):
                m.d.sync += score.eq(score + self.row[e])
            if self.shape.options.lookahead:
                with m.Elif(self.term.valid & (self.term.group == e // self.lanes)):
                    m.d.sync += score.eq(score + self.term.values[e % self.lanes])
        return m
