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

    Members
    -------
    clear: back to the prior; not together with ``valid``.
    valid, row: row to add.
    scores: in units of 2**-fraction; hold until ``clear`` or ``valid``.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        super().__init__({"clear": In(1), "valid": In(1), "row": In(shape.row),
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
        return m
