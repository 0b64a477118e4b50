"""The prefetch DMA alone, with ports that a test bench can name."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from stmoe.config import Geometry
from stmoe.prefetch.dma import PrefetchDma

__all__ = ["FlatDma"]


class FlatDma(wiring.Component):
    """:class:`PrefetchDma` of layer 0 at address 0, all experts in use, whose reports are always
    taken. AXI signals have the specification's names.

    Parameters
    ----------
    geometry: Geometry
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        width = g.config.axi_data_bits
        orders = {f"{kind}_{name}": member for kind in ("demand", "prefetch") for name, member in {
            "valid": In(1), "ready": Out(1), "slot": In(g.slot_bits),
            "expert": In(g.expert_bits)}.items()}
        super().__init__({
            **orders, "fill_valid": Out(1), "fill_slot": Out(g.slot_bits),
            "fill_beat": Out(g.beat_bits), "fill_data": Out(width), "status_valid": Out(1),
            "status_slot": Out(g.slot_bits), "status_kind": Out(2), "retried": Out(1),
            "corrupted": Out(1), "first_beat_valid": Out(1), "first_beat_cycles": Out(16),
            "blob_beats": In(g.beat_bits), "stride": In(32),
            "m_axi_arvalid": Out(1), "m_axi_arready": In(1),
            "m_axi_araddr": Out(g.config.axi_addr_bits), "m_axi_arid": Out(g.id_bits),
            "m_axi_arlen": Out(8), "m_axi_arsize": Out(3), "m_axi_arburst": Out(2),
            "m_axi_rvalid": In(1), "m_axi_rready": Out(1), "m_axi_rdata": In(width),
            "m_axi_rid": In(g.id_bits), "m_axi_rresp": In(2), "m_axi_rlast": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dma = dma = PrefetchDma(self.geometry)
        for kind in ("demand", "prefetch"):
            port = getattr(dma, kind)
            m.d.comb += [port.valid.eq(getattr(self, f"{kind}_valid")),
                         getattr(self, f"{kind}_ready").eq(port.ready),
                         port.payload.slot.eq(getattr(self, f"{kind}_slot")),
                         port.payload.expert.eq(getattr(self, f"{kind}_expert"))]
        ar, r, fill = dma.axi.ar, dma.axi.r, dma.fill
        m.d.comb += [
            self.fill_valid.eq(fill.valid),
            *(getattr(self, f"fill_{name}").eq(fill.payload[name])
              for name in ("slot", "beat", "data")),
            self.status_valid.eq(dma.status.valid), dma.status.ready.eq(1),
            *(getattr(self, f"status_{name}").eq(dma.status.payload[name])
              for name in ("slot", "kind")),
            *(getattr(self, name).eq(getattr(dma, name)) for name in ("retried", "corrupted")),
            *(getattr(self, f"first_beat_{name}").eq(dma.first_beat[name])
              for name in ("valid", "cycles")),
            dma.shape.blob_beats.eq(self.blob_beats), dma.shape.stride.eq(self.stride),
            dma.shape.experts.eq(self.geometry.config.model.experts),
            self.m_axi_arvalid.eq(ar.valid), ar.ready.eq(self.m_axi_arready),
            *(getattr(self, f"m_axi_ar{name}").eq(ar.payload[name])
              for name in ("addr", "id", "len", "size", "burst")),
            r.valid.eq(self.m_axi_rvalid), self.m_axi_rready.eq(r.ready),
            *(r.payload[name].eq(getattr(self, f"m_axi_r{name}"))
              for name in ("data", "id", "resp", "last"))]
        return m
