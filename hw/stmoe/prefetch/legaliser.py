"""Length of the next legal burst."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry

__all__ = ["PAGE_BYTES", "Legaliser"]

PAGE_BYTES = 4096


class Legaliser(wiring.Component):
    """Combinational: the longest burst that may be read from ``beat`` of a blob on.

    It has at most ``burst_beats`` beats and ends at the next 4 KiB boundary of the address, the
    next tile boundary of the blob, or the blob's end. Lengths are one less than beats, as in AXI:
    what is left up to a boundary is the complement of the bits below it. With ``integrity`` blobs
    are aligned so that no tile crosses 4 KiB, and a burst is a tile or what is left of the blob:
    ``address`` and ``beat`` are where a tile begins.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    address: of the first beat to read. beat: its number in the blob. left: beats from it to the
        blob's end, less one.
    len: of the burst. last: it ends the blob.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "address": In(g.config.axi_addr_bits), "beat": In(g.beat_bits),
            "left": In(g.beat_bits), "len": Out(8), "last": Out(1)})

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        if g.config.integrity:
            most = g.tile_beats - 1
            m.d.comb += [self.last.eq(self.left <= most),
                         self.len.eq(Mux(self.last, self.left, most))]
            return m
        byte_bits = g.axi_bytes.bit_length() - 1
        page = ~self.address[byte_bits:PAGE_BYTES.bit_length() - 1]
        tile = ~self.beat[:g.tile_beats.bit_length() - 1]
        most = min(256, g.config.burst_beats) - 1

        def least(a, b, name):
            smaller = Signal(range(max(256, PAGE_BYTES // g.axi_bytes)), name=name)
            m.d.comb += smaller.eq(Mux(a < b, a, b))
            return smaller

        # A comparison that no ``left`` can fail is left out: tools warn of a constant one.
        short = self.left <= most if most < (1 << g.beat_bits) - 1 else 1
        boundary = least(page, tile, "boundary")
        m.d.comb += [
            self.len.eq(least(boundary, least(self.left, most, "allowed"), "burst")),
            self.last.eq((self.left <= page) & (self.left <= tile) & short)]
        return m
