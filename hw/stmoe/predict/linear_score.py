"""Score accumulators of the linear predictor."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .linear_shape import INDEX_BITS, LinearShape

__all__ = ["RowSum", "sigmoid_index"]


def sigmoid_index(shape: LinearShape, score: Value) -> Value:
    """What the sigmoid looks at of a score: it in steps of 1/16, clipped, from 0 on."""
    low, half = score >> (shape.options.fraction - 4), 1 << INDEX_BITS - 1
    return (Mux(low > half - 1, half - 1, Mux(low < -half, -half, low)) + half)[:INDEX_BITS]


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
    mark, stage: pulse, not together with ``valid``: a stage other than the last is over, whose
        indices are kept in ``early``.
    damp: the sum of the first stage's rows then loses a quarter; the shift rounds down.
    term: terms to add, for a group of experts; not together with ``valid`` or ``mark``.
    scores: in units of 2**-fraction; hold until ``clear``, ``valid`` or ``mark``.
    early: indices into the sigmoid table of the sums up to each stage but the last.
    """

    def __init__(self, shape: LinearShape, lanes: int = 4):
        self.shape, self.lanes = shape, lanes
        super().__init__({**({"term": In(shape.term(lanes))} if shape.options.lookahead else {}),
                          "clear": In(1), "valid": In(1), "row": In(shape.row),
                          "mark": In(1), "stage": In(shape.stage_bits), "damp": In(1),
                          "scores": Out(shape.scores), "early": Out(shape.early)})

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        for e in range(shape.experts):
            score = Signal(shape.scores.elem_shape, name=f"score{e}")
            m.d.comb += self.scores[e].eq(score)
            with m.If(self.clear):
                m.d.sync += score.eq(shape.prior)
            with m.Elif(self.valid):
                m.d.sync += score.eq(score + self.row[e])
            if shape.options.lookahead:
                with m.Elif(self.term.valid & (self.term.group == e // self.lanes)):
                    m.d.sync += score.eq(score + self.term.values[e % self.lanes])
            if shape.stages > 1:
                with m.Elif(self.mark & self.damp & (self.stage == 0)):
                    m.d.sync += score.eq(score - ((score - shape.prior) >> 2))
                for stage in range(shape.stages - 1):
                    with m.If(self.mark & (self.stage == stage)):
                        m.d.sync += self.early[stage][e].eq(sigmoid_index(shape, score))
        return m
