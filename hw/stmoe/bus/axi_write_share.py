"""Two writers on one port of expert memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import AxiWriteSignature

__all__ = ["AxiWriteShare"]


class AxiWriteShare(wiring.Component):
    """Puts the bursts of ``first`` and ``second`` on one port, one after the other.

    A writer's bursts all have one id, which is set here: 0 for ``first``, 1 for ``second``. It
    offers AW and the first beat together, goes on to offer beats until the last, and nothing of the
    next burst before both channels are done with this one. The port is ``second``'s when both begin
    at once. Combinational: no latency, a beat per cycle. Back-pressure of B is the answered one's.
    Reset: nothing offered.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    first, second: the writers' channels. axi: the port's.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        writer = AxiWriteSignature(geometry)
        super().__init__({"first": In(writer), "second": In(writer), "axi": Out(writer)})

    def elaborate(self, platform):
        m = Module()
        first, second, axi = self.first, self.second, self.axi
        begun, owner, choice = Signal(), Signal(), Signal()  # 1: second
        m.d.comb += [
            choice.eq(Mux(begun, owner, second.aw.valid | second.w.valid)),
            axi.aw.payload.eq(Mux(choice, second.aw.payload, first.aw.payload)),
            axi.aw.payload.id.eq(choice),
            axi.aw.valid.eq(Mux(choice, second.aw.valid, first.aw.valid)),
            axi.w.payload.eq(Mux(choice, second.w.payload, first.w.payload)),
            axi.w.valid.eq(Mux(choice, second.w.valid, first.w.valid))]
        for writer, chosen in ((first, ~choice), (second, choice)):
            m.d.comb += [writer.aw.ready.eq(axi.aw.ready & chosen),
                         writer.w.ready.eq(axi.w.ready & chosen)]
        m.d.sync += [
            owner.eq(choice),
            begun.eq((axi.aw.valid & ~axi.aw.ready)
                     | (axi.w.valid & ~(axi.w.ready & axi.w.payload.last)))]

        to_second = axi.b.payload.id[0]
        m.d.comb += [
            first.b.payload.eq(axi.b.payload), second.b.payload.eq(axi.b.payload),
            first.b.valid.eq(axi.b.valid & ~to_second), second.b.valid.eq(axi.b.valid & to_second),
            axi.b.ready.eq(Mux(to_second, second.b.ready, first.b.ready))]
        return m
