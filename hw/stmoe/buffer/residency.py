"""Residency map: which slot holds, or will hold, an expert."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import expert_tag

__all__ = ["ResidencyMap"]


class ResidencyMap(wiring.Component):
    """RAM indexed by (layer, expert), answering one cycle after ``ask`` until the next one.

    Contents after power-up: nothing resident; not changed by reset.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    ask, at: lookup. found, slot: answer. write, to, resident, to_slot: change.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        tag = data.StructLayout(expert_tag(g))
        self.depth = g.config.model.layers << g.expert_bits
        super().__init__({
            "ask": In(1), "at": In(tag), "found": Out(1), "slot": Out(g.slot_bits),
            "write": In(1), "to": In(tag), "resident": In(1), "to_slot": In(g.slot_bits)})

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout({"resident": 1, "slot": self.geometry.slot_bits})
        m.submodules.ram = ram = memory.Memory(shape=layout, depth=self.depth, init=[])
        read, write = ram.read_port(), ram.write_port()
        m.d.comb += [
            read.addr.eq(Cat(self.at.expert, self.at.layer)), read.en.eq(self.ask),
            self.found.eq(read.data.resident), self.slot.eq(read.data.slot),
            write.addr.eq(Cat(self.to.expert, self.to.layer)), write.en.eq(self.write),
            write.data.resident.eq(self.resident), write.data.slot.eq(self.to_slot)]
        return m
