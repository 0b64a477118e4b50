"""Weights of four bits to the weights of eight that they stand for."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .requantise import saturated

__all__ = ["FourBitWeights"]

FRACTION = 3  # bits of a scale below the point


class FourBitWeights(wiring.Component):
    """``(q * scale + 4) >> 3``, saturated to int8, for each weight of a word.

    Streams without back-pressure, ``LATENCY`` cycles late. Products are sums of shifted scales:
    multipliers of an FPGA are for what comes behind.

    Parameters
    ----------
    rows, lanes: of a weight word.

    Members
    -------
    codes: q of -8 .. 7, four bits each, row by row. scales: byte r is for row r, unsigned.
    weights: byte ``r * lanes + i`` is row r, lane i.
    """

    LATENCY = 1

    def __init__(self, rows: int, lanes: int):
        self.rows, self.lanes = rows, lanes
        super().__init__({"codes": In(4 * rows * lanes), "scales": In(8 * rows),
                          "weights": Out(8 * rows * lanes)})

    def elaborate(self, platform):
        m = Module()
        weights = []
        for at in range(self.rows * self.lanes):
            scale = self.scales.word_select(at // self.lanes, 8)
            q = self.codes.word_select(at, 4)
            low = [Mux(q[bit], scale << bit, 0) for bit in range(3)]
            product = Signal(signed(12), name=f"product_{at}")
            m.d.sync += product.eq((low[0] + low[1]) + (low[2] - Mux(q[3], scale << 3, 0)))
            rounded = Signal(signed(10), name=f"rounded_{at}")
            m.d.comb += rounded.eq((product + (1 << (FRACTION - 1))) >> FRACTION)
            weights.append(saturated(m, rounded, 8, f"weight_{at}"))
        m.d.comb += self.weights.eq(Cat(weights))
        return m
