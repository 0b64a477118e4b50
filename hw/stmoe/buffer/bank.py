"""A bank of the expert buffer."""

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BankMemory"]


class BankMemory(wiring.Component):
    """RAM of one read and one write port, written in parts of a word.

    ``read_data`` answers ``read_en`` one cycle later and holds until the next read. A word written
    is read from the next cycle on. Contents after power-up: zeros.

    Parameters
    ----------
    width, depth: bits and number of words. part: bits written at a time.
    """

    def __init__(self, width: int, depth: int, part: int):
        self.width, self.depth, self.part = width, depth, part
        bits = max(1, (depth - 1).bit_length())
        super().__init__({
            "read_en": In(1), "read_addr": In(bits), "read_data": Out(width),
            "write_en": In(width // part), "write_addr": In(bits), "write_data": In(part)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = memory.Memory(shape=self.width, depth=self.depth, init=[])
        read, write = ram.read_port(), ram.write_port(granularity=self.part)
        m.d.comb += [
            read.addr.eq(self.read_addr), read.en.eq(self.read_en),
            self.read_data.eq(read.data), write.addr.eq(self.write_addr),
            write.data.eq(self.write_data.replicate(self.width // self.part)),
            write.en.eq(self.write_en)]
        return m
