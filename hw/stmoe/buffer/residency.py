"""Residency map: which slot holds, or will hold, an expert."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import expert_tag
from ..ram_style import fast_read

__all__ = ["ResidencyMap"]


class ResidencyMap(wiring.Component):
    """RAM indexed by (layer, expert), answering one cycle after an ``ask`` until the next one.

    Contents after power-up: nothing resident; not changed by reset.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    ask, at: lookup. found, slot: answer. also_*: the same for another port.
    write, to, resident, to_slot: change.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        tag = data.StructLayout(expert_tag(g))
        self.depth = g.config.model.layers << g.expert_bits
        super().__init__({
            **{prefix + name: member for prefix in ("", "also_") for name, member in {
                "ask": In(1), "at": In(tag), "found": Out(1), "slot": Out(g.slot_bits)}.items()},
            "write": In(1), "to": In(tag), "resident": In(1), "to_slot": In(g.slot_bits)})

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout({"resident": 1, "slot": self.geometry.slot_bits})
        m.submodules.ram = ram = memory.Memory(shape=layout, depth=self.depth, init=[],
                                                   attrs=fast_read(self.depth))
        write = ram.write_port()
        for ask, at, found, slot in (
                (self.ask, self.at, self.found, self.slot),
                (self.also_ask, self.also_at, self.also_found, self.also_slot)):
            read = ram.read_port()
            m.d.comb += [read.addr.eq(Cat(at.expert, at.layer)), read.en.eq(ask),
                         found.eq(read.data.resident), slot.eq(read.data.slot)]
        m.d.comb += [
            write.addr.eq(Cat(self.to.expert, self.to.layer)), write.en.eq(self.write),
            write.data.resident.eq(self.resident), write.data.slot.eq(self.to_slot)]
        return m
