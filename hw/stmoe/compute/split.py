"""Hands the tokens that share an expert out in parts, to as many PEs."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry

__all__ = ["GroupSplitter"]


class GroupSplitter(wiring.Component):
    """Splits groups of more tokens than half of a PE's even share of the command.

    By halves, until none is larger, at most as many as there are PEs; groups of an even share of
    less than four tokens, from three tokens on. Parts differ by one token at most, the larger ones
    first, and follow one another as they are taken; the first is offered in the cycle in which the
    group is. A slot is released with the last part of its group; the others' releases end here.
    Back-pressure is honoured. Reset: between two groups.

    Parameters
    ----------
    geometry: Geometry, of groups that are split.

    Members
    -------
    last_token: of the command, stable for two cycles before its first group. whole: nothing is
        split.
    work: groups. part: their parts, as PEs take them.
    extra: a group's first part is taken in this cycle, and so many will follow.
    release: of each part. released: of each group.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        self.doublings = g.doublings
        release = stream.Signature(data.StructLayout({"slot": unsigned(g.slot_bits)}))
        super().__init__({
            "last_token": In(g.token_bits), "whole": In(1),
            "work": In(stream.Signature(interfaces.work(g))),
            "part": Out(stream.Signature(interfaces.part(g))),
            "extra": Out(self.doublings), "release": In(release), "released": Out(release)})

    def elaborate(self, platform):
        m = Module()
        g, config = self.geometry, self.geometry.config
        limit = Signal(range(self.limit(config.max_tokens) + 1))
        with m.Switch(self.last_token):
            for last in range(config.max_tokens):
                with m.Case(last):
                    m.d.sync += limit.eq(self.limit(last + 1))

        number, first = Signal(self.doublings), Signal(g.token_bits)
        halved = Signal(range(self.doublings + 1))
        others, more = Signal(g.token_bits), Signal(self.doublings)
        group = data.View(interfaces.group_tag(), self.work.payload.gate)
        tag = data.View(interfaces.group_tag(), self.part.payload.gate)
        m.d.comb += [
            halved.eq(Mux(self.whole, 0, sum(group.others >= (limit << doubling)
                                             for doubling in range(self.doublings)))),
            more.eq((1 << halved) - 1), others.eq((group.others - number) >> halved),
            self.part.valid.eq(self.work.valid), self.part.payload.slot.eq(self.work.payload.slot),
            self.part.payload.first.eq(first), tag.expert.eq(group.expert), tag.others.eq(others),
            self.work.ready.eq(self.part.ready & (number == more))]
        begin = Signal()
        m.d.comb += begin.eq(self.part.valid & self.part.ready & (number == 0))
        with m.If(begin):
            m.d.comb += self.extra.eq(more)
        with m.If(self.part.valid & self.part.ready):
            m.d.sync += [number.eq(number + 1), first.eq(first + others + 1)]
            with m.If(self.work.ready):
                m.d.sync += [number.eq(0), first.eq(0)]

        m.submodules.left = left = memory.Memory(shape=self.doublings, depth=g.banks, init=[])
        write, read = left.write_port(), left.read_port(domain="comb")
        waits = read.data != 0  # for others of its group
        m.d.comb += [
            read.addr.eq(self.release.payload.slot),
            self.released.payload.eq(self.release.payload),
            self.released.valid.eq(self.release.valid & ~waits),
            self.release.ready.eq(Mux(waits, ~begin, self.released.ready)),
            write.addr.eq(self.release.payload.slot), write.data.eq(read.data - 1),
            write.en.eq(begin | (self.release.valid & waits))]
        with m.If(begin):
            m.d.comb += [write.addr.eq(self.part.payload.slot), write.data.eq(more)]
        return m

    def limit(self, tokens: int) -> int:
        """Most tokens of a part, of a command of ``tokens``, as long as there are PEs for it."""
        config = self.geometry.config
        share = tokens * (config.model.top_k + config.model.shared_units)
        return max(2, share // (2 * config.pes))
