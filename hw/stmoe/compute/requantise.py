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


def rounded(m: Module, value, up, bits: int, name: str):
    """``value + up`` (signed, and a bit) clipped to ``bits`` bits, combinational.

    Whether ``value`` is out of range is found beside the sum, which needs ``bits`` bits alone.
    """
    top, low = value[bits - 1:], value[:bits]
    total = Signal(bits, name=f"{name}_sum")
    result = Signal(signed(bits), name=name)
    high = 1 << (bits - 1)
    edge = Mux(value[-1], C(-high, signed(bits)), C(high - 1, signed(bits)))
    fits = (top.all() | ~top.any()) & (low[-1] | ~total[-1])
    m.d.comb += [total.eq(low + up), result.eq(Mux(fits, total.as_signed(), edge))]
    return result


class Requantiser(wiring.Component):
    """``saturate(round-half-even(acc * mult / 2**shift))``, one value per cycle, four cycles late.

    Streams without back-pressure: the answer to the operands of a cycle is there four cycles
    later (:attr:`LATENCY`): partial products; their sum, shifted by whole bytes; shifted by bits;
    rounded and clipped. Reset: nothing to reset that is seen.

    Parameters
    ----------
    bits: width of the result. narrow: width it is also clipped to while ``clip`` is set.

    Members
    -------
    acc, mult, shift, clip: operands of one cycle; shift 0 .. 63. result: signed.
    """

    LATENCY = 4

    def __init__(self, bits: int, narrow: int = 0):
        self.bits, self.narrow = bits, narrow
        super().__init__({"acc": In(signed(32)), "mult": In(16), "shift": In(6), "clip": In(1),
                          "result": Out(signed(bits))})

    def elaborate(self, platform):
        m = Module()
        mult = Cat(self.mult, C(0, 1)).as_signed()
        low, high, shift = Signal(signed(33)), Signal(signed(33)), Signal(6)
        # A shift beyond 48 leaves less than a half of any 48-bit product: 49 stands for all.
        m.d.sync += [low.eq(Cat(self.acc[:16], C(0, 1)).as_signed() * mult),
                     high.eq(self.acc[16:].as_signed() * mult),
                     shift.eq(Mux(self.shift > 49, 49, self.shift))]

        # One fraction bit below the units; what falls out below that is sticky.
        product = Signal(signed(49))
        wide = Signal(signed(56))
        m.d.comb += [product.eq(Cat(low[:16], low[16:].as_signed() + high).as_signed()),
                     wide.eq(Cat(C(0, 1), product).as_signed())]
        by_bytes, bits_left = Signal(signed(50)), Signal(3)
        dropped, byte_mask = Signal(6), Signal(6)
        m.d.sync += [
            by_bytes.eq(wide >> (shift[3:] << 3)), bits_left.eq(shift[:3]),
            *(dropped[i].eq(wide[8 * i:8 * i + 8].any()) for i in range(6)),
            *(byte_mask[i].eq(shift[3:] > i) for i in range(6))]

        whole, half, sticky = Signal(signed(49)), Signal(), Signal()
        shifted = Signal(signed(50))
        m.d.comb += shifted.eq(by_bytes >> bits_left)
        m.d.sync += [
            whole.eq(shifted[1:].as_signed()), half.eq(shifted[0]),
            sticky.eq((dropped & byte_mask).any()
                      | (by_bytes[:7] & ((1 << bits_left) - 1)[:7]).any())]

        up = half & (sticky | whole[0])
        result = rounded(m, whole, up, self.bits, "wide_result")
        if self.narrow:
            clip = delay(m, self.clip, 3, "clip")
            result = Mux(clip, rounded(m, whole, up, self.narrow, "small_result"), result)
        m.d.sync += self.result.eq(result)
        return m
