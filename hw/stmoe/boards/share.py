"""Accelerator and host on one port of expert memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .memory_port import MemorySignature

__all__ = ["MemoryShare"]


class MemoryShare(wiring.Component):
    """Puts ``first`` and ``second`` on one port whose ids have a bit more, 1 for ``second``.

    Where both ask at once, ``second`` goes first: the host, whose bursts are few. A burst that is
    offered and stalled stays offered. The W beats of a burst come a cycle after its AW at the
    earliest; the next burst's when both channels are done with this one. Else combinational: no
    latency, a burst and a beat per cycle. Back-pressure of R and B is the answered one's. Reset:
    nothing offered.
    (:class:`~stmoe.bus.axi_share.AxiShare` divides the accelerator's ids, which may all be taken.)

    Parameters
    ----------
    signature: of ``first`` and ``second``.

    Members
    -------
    first, second: from the managers. axi: to the memory.
    """

    def __init__(self, signature: MemorySignature):
        self.inner = signature
        self.outer = MemorySignature(addr_bits=signature.addr_bits, data_bits=signature.data_bits,
                                     id_bits=signature.id_bits + 1)
        super().__init__({"first": In(signature), "second": In(signature), "axi": Out(self.outer)})

    def elaborate(self, platform):
        m = Module()
        axi, sides = self.axi, (self.first, self.second)

        stalled, held, reads = Signal(), Signal(), Signal()  # 1: second
        begun, owner, writes = Signal(), Signal(), Signal()
        asked, ended = Signal(), Signal()  # of the burst that is written
        aw_done, w_done = Signal(), Signal()
        m.d.comb += [
            reads.eq(Mux(stalled, held, self.second.ar.valid)),
            writes.eq(Mux(begun, owner, self.second.aw.valid)),
            aw_done.eq(asked | (axi.aw.valid & axi.aw.ready)),
            w_done.eq(ended | (axi.w.valid & axi.w.ready & axi.w.payload.last))]
        m.d.sync += [stalled.eq(axi.ar.valid & ~axi.ar.ready), held.eq(reads)]
        with m.If(aw_done & w_done):
            m.d.sync += [begun.eq(0), asked.eq(0), ended.eq(0)]
        with m.Else():
            m.d.sync += [begun.eq(begun | axi.aw.valid), owner.eq(writes), asked.eq(aw_done),
                         ended.eq(w_done)]

        for name, choice in (("ar", reads), ("aw", writes)):
            channel, inner = getattr(axi, name), [getattr(side, name) for side in sides]
            chosen = Mux(choice, inner[1].payload, inner[0].payload)
            fields = Signal(inner[0].payload.shape(), name=f"{name}_chosen")
            m.d.comb += [
                fields.as_value().eq(chosen),
                *(channel.payload[field].eq(fields[field])
                  for field in ("addr", "len", "size", "burst")),
                channel.payload.id.eq(Cat(fields.id, choice))]
        valid = Mux(writes, self.second.aw.valid, self.first.aw.valid)
        m.d.comb += [
            axi.ar.valid.eq(Mux(reads, self.second.ar.valid, self.first.ar.valid)),
            axi.aw.valid.eq(valid & ~asked),
            axi.w.payload.eq(Mux(owner, self.second.w.payload, self.first.w.payload)),
            axi.w.valid.eq(Mux(owner, self.second.w.valid, self.first.w.valid) & begun & ~ended)]
        for number, side in enumerate(sides):
            m.d.comb += [
                side.ar.ready.eq(axi.ar.ready & (reads == number)),
                side.aw.ready.eq(axi.aw.ready & (writes == number) & ~asked),
                side.w.ready.eq(axi.w.ready & (owner == number) & begun & ~ended)]
            for name in ("r", "b"):
                channel, inner = getattr(axi, name), getattr(side, name)
                mine = channel.payload.id[-1] == number
                m.d.comb += [
                    *(inner.payload[field].eq(channel.payload[field])
                      for field in inner.payload.shape().members),
                    inner.valid.eq(channel.valid & mine)]
        for name in ("r", "b"):
            channel = getattr(axi, name)
            m.d.comb += channel.ready.eq(Mux(
                channel.payload.id[-1], getattr(self.second, name).ready,
                getattr(self.first, name).ready))
        return m
