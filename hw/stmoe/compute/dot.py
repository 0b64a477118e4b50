"""Dot products of a weight word's rows with an operand word."""

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..sharing import share

__all__ = ["DotProducts"]

RADIX = 8  # values summed per pipeline stage


def _stages(lanes: int) -> list[int]:
    """Values after each stage of adders: the last leaves one or two."""
    left = [-(-lanes // RADIX)]
    while left[-1] > 2:
        left.append(-(-left[-1] // RADIX))
    return left


def _outputs(lanes: int) -> tuple[int, int]:
    """How many values are left of a row, and their bits."""
    parts = _stages(lanes)[-1]
    return parts, 16 + (-(-lanes // parts) - 1).bit_length()


class DotProducts(wiring.Component):
    """``rows`` dot products of ``lanes`` int8 pairs per cycle, :attr:`latency` cycles late.

    Streams without back-pressure. Stages: operands, products, and sums of eight values, until two
    are left: whoever takes them adds something in any case.

    Parameters
    ----------
    rows, lanes: size. holds: whether weights may stand for many operands.

    Members
    -------
    weights: byte ``r * lanes + i`` is row r, lane i. operand: byte i is lane i.
    fetch: of what ``holds``: these weights are taken; else the last ones taken stand.
    sums: of each row ``parts`` signed values of ``sum_bits`` bits, whose sum it is, row 0 lowest.
    """

    def __init__(self, rows: int, lanes: int, *, holds: bool = False):
        self.rows, self.lanes, self.holds = rows, lanes, holds
        self.parts, self.sum_bits = _outputs(lanes)
        self.latency = 2 + len(_stages(lanes))
        super().__init__({"weights": In(8 * rows * lanes), "operand": In(8 * lanes),
                          "sums": Out(rows * self.parts * self.sum_bits)} | (
                              {"fetch": In(1)} if holds else {}))

    def elaborate(self, platform):
        m = Module()
        for row in range(self.rows):
            unit = share(m, f"row_{row}", platform, DotRow, self.lanes, self.holds)
            if self.holds:
                m.d.comb += unit.fetch.eq(self.fetch)
            m.d.comb += [
                unit.weights.eq(self.weights.word_select(row, 8 * self.lanes)),
                unit.operand.eq(self.operand),
                self.sums.word_select(row, len(unit.sums)).eq(unit.sums)]
        return m

    def parts_of(self, row: int) -> list[Value]:
        """The values whose sum is the dot product of ``row``, signed."""
        return [self.sums.word_select(row * self.parts + part, self.sum_bits).as_signed()
                for part in range(self.parts)]


class DotRow(wiring.Component):
    """A row of :class:`DotProducts`, with operand registers of its own beside its multipliers;
    latency, throughput and members are its, of one row."""

    def __init__(self, lanes: int, holds: bool = False):
        self.lanes, self.holds = lanes, holds
        self.parts, self.sum_bits = _outputs(lanes)
        super().__init__({"weights": In(8 * lanes), "operand": In(8 * lanes),
                          "sums": Out(self.parts * self.sum_bits)} | (
                              {"fetch": In(1)} if holds else {}))

    def elaborate(self, platform):
        m = Module()
        weights, operand = Signal.like(self.weights), Signal.like(self.operand)
        m.d.sync += operand.eq(self.operand)
        with m.If(self.fetch if self.holds else 1):
            m.d.sync += weights.eq(self.weights)
        values = []
        for lane in range(self.lanes):
            product = Signal(signed(16), name=f"product_{lane}")
            m.d.sync += product.eq(weights.word_select(lane, 8).as_signed()
                                   * operand.word_select(lane, 8).as_signed())
            values.append(product)
        for stage, left in enumerate(_stages(self.lanes)):
            parts = []
            for at in range(left):
                part = Signal(signed(self.sum_bits), name=f"sum_{stage}_{at}")
                m.d.sync += part.eq(sum(values[RADIX * at:RADIX * (at + 1)]))
                parts.append(part)
            values = parts
        m.d.comb += self.sums.eq(Cat(values))
        return m
