"""The SiLU table."""

import math

from amaranth.hdl import Module, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SILU_BITS", "SiluTable"]

SILU_BITS = 10  # of the gate value, in steps of 1/64


def _entry(index: int) -> int:
    g = (index if index < 512 else index - 1024) / 64
    return max(-32768, min(32767, round(4096 * g / (1 + math.exp(-g)))))


class SiluTable(wiring.Component):
    """ROM of ``4096 * silu(g / 64)``: ``result`` answers ``g`` two cycles later."""

    LATENCY = 2

    def __init__(self):
        super().__init__({"g": In(signed(SILU_BITS)), "result": Out(signed(16))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = memory.Memory(
            shape=signed(16), depth=1 << SILU_BITS,
            init=[_entry(index) for index in range(1 << SILU_BITS)])
        port = rom.read_port()
        m.d.comb += [port.addr.eq(self.g), port.en.eq(1)]
        m.d.sync += self.result.eq(port.data)  # block RAMs are slow to answer
        return m
