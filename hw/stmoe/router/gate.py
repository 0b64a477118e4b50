"""From logits to gate values."""

import math

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..compute.requantise import Requantiser

__all__ = ["Divider", "GateScale"]

STEPS = 64  # table steps per unit of the exponent
SOFTMAX_BITS, SIGMOID_BITS = 11, 10  # signed steps
QUOTIENT_BITS = 16


class GateScale(wiring.Component):
    """``exp`` or ``sigmoid`` of a requantised logit from tables, one a cycle.

    Without back-pressure; the answer comes :attr:`LATENCY` cycles later.

    Members
    -------
    value: of a logit below the largest for ``exp``, of the logit itself for ``sigmoid``.
    sigmoid, mult, shift: settings, stable meanwhile.
    scale: ``exp(-x)`` in units of 1/65535, or ``sigmoid(x)`` in Q1.15.
    """

    LATENCY = Requantiser.LATENCY + 2

    def __init__(self):
        super().__init__({"value": In(32), "sigmoid": In(1), "mult": In(16), "shift": In(6),
                          "scale": Out(16)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.requantise = steps = Requantiser(SOFTMAX_BITS, narrow=SIGMOID_BITS)
        half = 1 << (SIGMOID_BITS - 1)
        exp = [round(65535 * math.exp(-i / STEPS)) for i in range(1 << (SOFTMAX_BITS - 1))]
        sigmoid = [round(32768 / (1 + math.exp(-i / STEPS))) for i in range(-half, half)]
        m.submodules.tables = tables = memory.Memory(
            shape=16, depth=len(exp) + len(sigmoid), init=exp + sigmoid)
        port = tables.read_port()
        m.d.sync += steps.acc.eq(self.value.as_signed())  # a difference goes into a product
        m.d.comb += [
            steps.mult.eq(self.mult),
            steps.shift.eq(self.shift), steps.clip.eq(self.sigmoid),
            port.en.eq(1), self.scale.eq(port.data),
            port.addr.eq(Mux(self.sigmoid, len(exp) + half + steps.result, steps.result))]
        return m


class Divider(wiring.Component):
    """``floor(2**15 * part / whole)`` for ``part <= whole``, one a cycle, :attr:`LATENCY` later.

    Parameters
    ----------
    bits: of ``whole``, not 0.

    Members
    -------
    part, whole; quotient: 0 .. 2**15.
    """

    LATENCY = QUOTIENT_BITS

    def __init__(self, bits: int):
        self.bits = bits
        super().__init__({"part": In(16), "whole": In(bits), "quotient": Out(QUOTIENT_BITS)})

    def elaborate(self, platform):
        m = Module()
        rest, whole, done = self.part, self.whole, C(0, 0)
        for step in range(QUOTIENT_BITS):
            fits = Signal(name=f"fits_{step}")
            left = Signal(self.bits + 1, name=f"rest_{step}")
            bits = Signal(step + 1, name=f"quotient_{step}")
            kept = Signal(self.bits, name=f"whole_{step}")
            m.d.comb += fits.eq(rest >= whole)
            m.d.sync += [left.eq(Mux(fits, rest - whole, rest) << 1), kept.eq(whole),
                         bits.eq(Cat(fits, done))]
            rest, whole, done = left, kept, bits
        m.d.comb += self.quotient.eq(done)
        return m
