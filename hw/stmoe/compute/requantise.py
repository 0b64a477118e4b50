"""Fixed-point requantiser."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pipeline import delay

__all__ = ["Requantiser", "saturated"]


def saturated(m: Module, value, bits: int, name: str):
    """``value`` (signed) clipped to ``bits`` bits, combinational."""
    top = value[bits - 1:]
    result = Signal(signed(bits), name=name)
    low = value[:bits].as_signed()
    high = 1 << (bits - 1)
    edge = Mux(value[-1], C(-high, signed(bits)), C(high - 1, signed(bits)))
    m.d.comb += result.eq(Mux(top.all() | ~top.any(), low, edge))
    return result


class Requantiser(wiring.Component):
    """``saturate(round-half-even(acc * mult / 2**shift))``, one value per cycle, three cycles late.

    Streams without back-pressure: the answer to the operands of a cycle is there three cycles
    later (:attr:`LATENCY`). Reset: nothing to reset that is seen.

    Parameters
    ----------
    bits: width of the result. narrow: width it is also clipped to while ``clip`` is set.

    Members
    -------
    acc, mult, shift, clip: operands of one cycle; shift 0 .. 63. result: signed.
    """

    LATENCY = 3

    def __init__(self, bits: int, narrow: int = 0):
        self.bits, self.narrow = bits, narrow
        super().__init__({"acc": In(signed(32)), "mult": In(16), "shift": In(6), "clip": In(1),
                          "result": Out(signed(bits))})

    def elaborate(self, platform):
        m = Module()
        # A shift beyond 48 leaves less than a half of any 48-bit product: 49 stands for all.
        product, shift = Signal(signed(49)), Signal(6)
        m.d.sync += [product.eq(self.acc * Cat(self.mult, C(0, 1)).as_signed()),
                     shift.eq(Mux(self.shift > 49, 49, self.shift))]

        # One fraction bit below the units and one sticky bit below that.
        wide = Signal(signed(99))
        shifted = Signal(signed(99))
        m.d.comb += [wide.eq(Cat(C(0, 50), product).as_signed()), shifted.eq(wide >> shift)]
        whole, half, sticky = Signal(signed(49)), Signal(), Signal()
        m.d.sync += [whole.eq(shifted[50:].as_signed()), half.eq(shifted[49]),
                     sticky.eq(shifted[:49].any())]

        rounded = Signal(signed(50))
        m.d.comb += rounded.eq(whole + (half & (sticky | whole[0])))
        wide_result = saturated(m, rounded, self.bits, "wide_result")
        if self.narrow:
            clip = delay(m, self.clip, 2, "clip")
            small = saturated(m, rounded, self.narrow, "small_result")
            m.d.sync += self.result.eq(Mux(clip, small, wide_result))
        else:
            m.d.sync += self.result.eq(wide_result)
        return m
