"""Dot products of a weight word's rows with an operand word."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DotProducts"]

RADIX = 16  # products summed per pipeline stage


class DotProducts(wiring.Component):
    """``rows`` dot products of ``lanes`` int8 pairs per cycle, :attr:`latency` cycles late.

    Streams without back-pressure. Stages: operands, products, and one per factor of 16 in lanes.

    Parameters
    ----------
    rows, lanes: size.

    Members
    -------
    weights: byte ``r * lanes + i`` is row r, lane i. operand: byte i is lane i.
    sums: ``rows`` signed sums of ``sum_bits`` bits, row 0 lowest.
    """

    def __init__(self, rows: int, lanes: int):
        self.rows, self.lanes = rows, lanes
        self.sum_bits = 16 + (lanes - 1).bit_length()
        stages, left = 0, lanes
        while left > 1:
            stages, left = stages + 1, -(-left // RADIX)
        self.latency = 2 + stages
        super().__init__({"weights": In(8 * rows * lanes), "operand": In(8 * lanes),
                          "sums": Out(self.sum_bits * rows)})

    def elaborate(self, platform):
        m = Module()
        weights, operand = Signal.like(self.weights), Signal.like(self.operand)
        m.d.sync += [weights.eq(self.weights), operand.eq(self.operand)]
        for row in range(self.rows):
            values = []
            for lane in range(self.lanes):
                at = 8 * (row * self.lanes + lane)
                product = Signal(signed(16), name=f"product_{row}_{lane}")
                m.d.sync += product.eq(weights[at:at + 8].as_signed()
                                       * operand[8 * lane:8 * lane + 8].as_signed())
                values.append(product)
            stage = 0
            while len(values) > 1:
                parts = []
                for at in range(0, len(values), RADIX):
                    part = Signal(signed(self.sum_bits), name=f"sum_{row}_{stage}_{at // RADIX}")
                    m.d.sync += part.eq(sum(values[at:at + RADIX]))
                    parts.append(part)
                values, stage = parts, stage + 1
            m.d.comb += self.sums[self.sum_bits * row:self.sum_bits * (row + 1)].eq(values[0])
        return m
