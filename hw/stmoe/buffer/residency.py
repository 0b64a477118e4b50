"""Residency map: which slot holds, or will hold, an expert."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import expert_tag

__all__ = ["ResidencyMap"]


class ResidencyMap(wiring.Component):
    """RAM indexed by (layer, expert), answering one cycle after an ``ask`` until the next one.

    Nothing is changed in a cycle with ``ask``; in one with ``also_ask`` an expert may cease to be
    resident, ``to_slot`` being where it was: then the answer, if it is about that one, is the old.
    Contents after power-up: nothing resident; not changed by reset.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    ask, at: lookup. also_ask, also_at: another's, which goes first.
    found, slot: answer, late in a cycle, to ``ask``; also_found, also_slot: to ``also_ask``.
    kept_found, kept_slot: ``found`` and ``slot`` a cycle later.
    write, to, resident, to_slot: change.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        tag = data.StructLayout(expert_tag(g))
        self.depth = g.config.model.layers << g.expert_bits
        super().__init__({
            **{prefix + name: member for prefix in ("", "also_") for name, member in {
                "ask": In(1), "at": In(tag)}.items()},
            **{prefix + name: member for prefix in ("", "also_", "kept_") for name, member in {
                "found": Out(1), "slot": Out(g.slot_bits)}.items()},
            "write": In(1), "to": In(tag), "resident": In(1), "to_slot": In(g.slot_bits)})

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout({"resident": 1, "slot": self.geometry.slot_bits})
        m.submodules.ram = ram = memory.Memory(shape=layout, depth=self.depth, init=[],
                                               attrs={"no_rw_check": 1})
        write, read = ram.write_port(), ram.read_port()
        changed, to, asked = Signal(), Signal.like(self.to), Signal.like(self.also_at)
        met, was = Signal(), Signal.like(self.slot)
        m.d.sync += [changed.eq(self.write), to.eq(self.to), asked.eq(self.also_at),
                     was.eq(self.to_slot)]
        m.d.comb += [
            met.eq(changed & (to == asked)),
            self.also_found.eq(self.found | met), self.also_slot.eq(Mux(met, was, self.slot)),
            read.addr.eq(Mux(self.also_ask, Cat(self.also_at.expert, self.also_at.layer),
                             Cat(self.at.expert, self.at.layer))),
            read.en.eq(self.ask | self.also_ask),
            self.found.eq(read.data.resident), self.slot.eq(read.data.slot),
            write.addr.eq(Cat(self.to.expert, self.to.layer)), write.en.eq(self.write),
            write.data.resident.eq(self.resident), write.data.slot.eq(self.to_slot)]
        m.d.sync += [self.kept_found.eq(self.found), self.kept_slot.eq(self.slot)]
        return m
