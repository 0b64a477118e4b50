"""Dot products of a weight word's rows with an operand word."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..sharing import share

__all__ = ["DotProducts"]

RADIX = 16  # products summed per pipeline stage


def _sum_bits(lanes: int) -> int:
    return 16 + (lanes - 1).bit_length()


class DotProducts(wiring.Component):
    """``rows`` dot products of ``lanes`` int8 pairs per cycle, :attr:`latency` cycles late.

    Streams without back-pressure. Stages: operands, products, and one per factor of 16 in lanes.

    Parameters
    ----------
    rows, lanes: size. holds: whether weights may stand for many operands.

    Members
    -------
    weights: byte ``r * lanes + i`` is row r, lane i. operand: byte i is lane i.
    fetch: of what ``holds``: these weights are taken; else the last ones taken stand.
    sums: ``rows`` signed sums of ``sum_bits`` bits, row 0 lowest.
    """

    def __init__(self, rows: int, lanes: int, *, holds: bool = False):
        self.rows, self.lanes, self.holds = rows, lanes, holds
        self.sum_bits = _sum_bits(lanes)
        stages, left = 0, lanes
        while left > 1:
            stages, left = stages + 1, -(-left // RADIX)
        self.latency = 2 + stages
        super().__init__({"weights": In(8 * rows * lanes), "operand": In(8 * lanes),
                          "sums": Out(self.sum_bits * rows)} | ({"fetch": In(1)} if holds else {}))

    def elaborate(self, platform):
        m = Module()
        weights, operand = Signal.like(self.weights), Signal.like(self.operand)
        m.d.sync += operand.eq(self.operand)
        with m.If(self.fetch if self.holds else 1):
            m.d.sync += weights.eq(self.weights)
        for row in range(self.rows):
            unit = share(m, f"row_{row}", platform, DotRow, self.lanes)
            m.d.comb += [
                unit.weights.eq(weights.word_select(row, 8 * self.lanes)), unit.operand.eq(operand),
                self.sums.word_select(row, self.sum_bits).eq(unit.sum)]
        return m


class DotRow(wiring.Component):
    """A row of :class:`DotProducts`, without its operand registers."""

    def __init__(self, lanes: int):
        self.lanes = lanes
        self.sum_bits = _sum_bits(lanes)
        super().__init__({"weights": In(8 * lanes), "operand": In(8 * lanes),
                          "sum": Out(signed(self.sum_bits))})

    def elaborate(self, platform):
        m = Module()
        values = []
        for lane in range(self.lanes):
            product = Signal(signed(16), name=f"product_{lane}")
            m.d.sync += product.eq(self.weights.word_select(lane, 8).as_signed()
                                   * self.operand.word_select(lane, 8).as_signed())
            values.append(product)
        stage = 0
        while len(values) > 1:
            parts = []
            for at in range(0, len(values), RADIX):
                part = Signal(signed(self.sum_bits), name=f"sum_{stage}_{at // RADIX}")
                m.d.sync += part.eq(sum(values[at:at + RADIX]))
                parts.append(part)
            values, stage = parts, stage + 1
        m.d.comb += self.sum.eq(values[0])
        return m
