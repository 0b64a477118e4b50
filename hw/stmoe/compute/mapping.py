"""Expert mapping: which tokens of a layer command share an expert."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry

__all__ = ["ExpertMapping"]


class ExpertMapping(wiring.Component):
    """Groups routed tokens by expert as they come, one (token, expert, gate) a cycle.

    Experts are numbered in the order of their first use. Everything is answered in the same cycle.
    No back-pressure. Reset: as after ``clear``.

    Parameters
    ----------
    geometry: Geometry, of more than one token

    Members
    -------
    clear: a command begins.
    routed: valid, token (all of one before the next), expert (below the configured ``experts``),
        gate.
    repeated: the token has that expert already; nothing is taken.
    member: what the PEs are to know of it.
    experts: how many there are. number: of one of them; expert, others: its id, and how many more
        tokens than one it serves.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "clear": In(1), "routed": In(data.StructLayout({
                "valid": 1, "token": g.token_bits, "expert": g.expert_bits, "gate": 16})),
            "repeated": Out(1), "member": Out(interfaces.member(g)),
            "experts": Out(range(g.config.most_experts + 1)),
            "number": In(range(g.config.most_experts + 1)), "expert": Out(g.expert_bits),
            "others": Out(g.token_bits)})

    def elaborate(self, platform):
        m = Module()
        g, routed, member = self.geometry, self.routed, self.member
        model = g.config.model
        seen = Signal(model.experts)
        m.submodules.order = order = memory.Memory(
            shape=g.expert_bits, depth=max(2, g.config.most_experts), init=[])
        m.submodules.served = served = memory.Memory(
            shape=data.StructLayout({"others": g.token_bits, "last": g.token_bits}),
            depth=model.experts, init=[])
        append, look = order.write_port(), order.read_port(domain="comb")
        write, before, asked = (served.write_port(), served.read_port(domain="comb"),
                                served.read_port(domain="comb"))
        known = Signal()
        m.d.comb += [
            before.addr.eq(routed.expert), known.eq(seen.bit_select(routed.expert, 1)),
            self.repeated.eq(known & (before.data.last == routed.token)),
            member.valid.eq(routed.valid & ~self.repeated), member.expert.eq(routed.expert),
            member.token.eq(routed.token), member.gate.eq(routed.gate),
            member.place.eq(Mux(known, before.data.others + 1, 0)),
            write.en.eq(member.valid), write.addr.eq(routed.expert),
            write.data.others.eq(member.place), write.data.last.eq(routed.token),
            append.en.eq(member.valid & ~known), append.addr.eq(self.experts),
            append.data.eq(routed.expert),
            look.addr.eq(self.number), self.expert.eq(look.data), asked.addr.eq(look.data),
            self.others.eq(asked.data.others)]
        with m.If(self.clear):
            m.d.sync += [seen.eq(0), self.experts.eq(0)]
        with m.Elif(append.en):
            m.d.sync += [seen.bit_select(routed.expert, 1).eq(1), self.experts.eq(self.experts + 1)]
        return m
