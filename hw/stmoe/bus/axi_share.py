"""Two readers on one AXI4 read port."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import ConfigError, Geometry
from ..interfaces import AxiReadSignature

__all__ = ["AxiShare"]


class AxiShare(wiring.Component):
    """Puts ``first`` and ``second`` on one port; each beat of R goes to the one whose id it has.

    ``second``, whose bursts are short, goes before ``first``; it must not ask without end. A burst
    that is offered and stalled stays offered. Combinational: no latency, a burst and a beat per
    cycle. Back-pressure of R is the chosen one's. Reset: nothing offered.

    Parameters
    ----------
    geometry: Geometry
    boundary: ids from here on are those of ``second``, all below those of ``first``.

    Members
    -------
    first, second: the readers' channels. axi: the port's.
    """

    def __init__(self, geometry: Geometry, boundary: int):
        if not 0 < boundary < 1 << geometry.id_bits:
            raise ConfigError("boundary", boundary,
                              f"from 1 to {(1 << geometry.id_bits) - 1}, an AXI id")
        self.geometry, self.boundary = geometry, boundary
        reader = AxiReadSignature(geometry)
        super().__init__({"first": In(reader), "second": In(reader), "axi": Out(reader)})

    def elaborate(self, platform):
        m = Module()
        first, second, axi = self.first, self.second, self.axi
        stalled, held, choice = Signal(), Signal(), Signal()  # 1: second
        m.d.comb += [
            choice.eq(Mux(stalled, held, second.ar.valid)),
            axi.ar.valid.eq(Mux(choice, second.ar.valid, first.ar.valid)),
            axi.ar.payload.eq(Mux(choice, second.ar.payload, first.ar.payload)),
            first.ar.ready.eq(axi.ar.ready & ~choice), second.ar.ready.eq(axi.ar.ready & choice)]
        m.d.sync += [stalled.eq(axi.ar.valid & ~axi.ar.ready), held.eq(choice)]

        to_second = Signal()
        m.d.comb += [
            to_second.eq(axi.r.payload.id >= self.boundary),
            first.r.payload.eq(axi.r.payload), second.r.payload.eq(axi.r.payload),
            first.r.valid.eq(axi.r.valid & ~to_second), second.r.valid.eq(axi.r.valid & to_second),
            axi.r.ready.eq(Mux(to_second, second.r.ready, first.r.ready))]
        return m
