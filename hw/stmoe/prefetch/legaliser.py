"""Length of the next legal burst."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry

__all__ = ["Legaliser"]

PAGE_BYTES = 4096


class Legaliser(wiring.Component):
    """Combinational: the longest burst that may be read from ``beat`` of a blob on.

    It has at most ``burst_beats`` beats and ends at the next 4 KiB boundary of the address, the
    next tile boundary of the blob, or the blob's end.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    base: byte address of the blob. beat: first beat to read, less than ``blob_beats``.
    address, beats: of the burst.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "base": In(g.config.axi_addr_bits), "beat": In(g.beat_bits),
            "blob_beats": In(g.beat_bits),
            "address": Out(g.config.axi_addr_bits), "beats": Out(9)})

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        page_beats = PAGE_BYTES // g.axi_bytes
        tile_beats = g.tile_beats
        byte_bits = g.axi_bytes.bit_length() - 1
        m.d.comb += self.address.eq(self.base + (self.beat << byte_bits))

        def least(a, b, name):
            smaller = Signal(range(max(page_beats, 256) + 1), name=name)
            m.d.comb += smaller.eq(Mux(a < b, a, b))
            return smaller

        in_page = (self.address >> byte_bits) & (page_beats - 1)
        in_tile = self.beat & (tile_beats - 1)
        left = self.blob_beats - self.beat
        boundary = least(page_beats - in_page, tile_beats - in_tile, "boundary")
        m.d.comb += self.beats.eq(
            least(boundary, least(left, g.config.burst_beats, "allowed"), "burst"))
        return m
