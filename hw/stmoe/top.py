"""The accelerator: blocks wired together behind plain AXI ports."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .buffer.manager import ExpertManager
from .buffer.storage import BufferStorage
from .bus.csr import CsrBlock
from .compute.array import PeArray
from .config import Geometry
from .interfaces import ErrorCode
from .predict import prediction_unit
from .prefetch.dma import PrefetchDma
from .router.router import Router
from .sequencer import Sequencer

__all__ = ["Accelerator", "Ports"]


class Ports(wiring.Signature):
    """Flat ports of the netlist, named as vendors' tools expect."""

    def __init__(self, g: Geometry):
        c = g.config
        axil = {
            "awaddr": In(12), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
            "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
            "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
            "araddr": In(12), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
            "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1)}
        axi = {
            "araddr": Out(c.axi_addr_bits), "arid": Out(g.id_bits), "arlen": Out(8),
            "arsize": Out(3), "arburst": Out(2), "arlock": Out(1), "arcache": Out(4),
            "arprot": Out(3), "arqos": Out(4), "arvalid": Out(1), "arready": In(1),
            "rdata": In(c.axi_data_bits), "rid": In(g.id_bits), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1)}
        super().__init__({
            **{f"s_axil_{name}": member for name, member in axil.items()},
            "s_axis_cmd_tdata": In(64), "s_axis_cmd_tvalid": In(1), "s_axis_cmd_tready": Out(1),
            "s_axis_act_tdata": In(8 * c.lanes), "s_axis_act_tvalid": In(1),
            "s_axis_act_tready": Out(1),
            "m_axis_res_tdata": Out(16 * c.rows), "m_axis_res_tvalid": Out(1),
            "m_axis_res_tready": In(1), "m_axis_res_tlast": Out(1), "m_axis_res_tuser": Out(1),
            **{f"m_axi_{name}": member for name, member in axi.items()},
            "irq": Out(1),
            "event_valid": Out(1), "event_kind": Out(5), "event_layer": Out(g.layer_bits),
            "event_expert": Out(g.expert_bits), "event_slot": Out(g.slot_bits),
            "event_arg": Out(24),
            "predict_valid": Out(1), "predict_layer": Out(g.layer_bits),
            "predict_expert": Out(g.expert_bits), "predict_score": Out(g.score_bits),
            "predict_end": Out(1)})


class Accelerator(wiring.Component):
    """A whole accelerator for one configuration.

    AXI4-Lite registers, AXI4-Stream commands, activations and results, an AXI4 read manager to
    expert memory, an interrupt line, and two observation ports (``event_*``: decisions of the
    expert manager, ``predict_*``: candidates taken from the prediction unit) that may be left open.
    Clock ``clk``, synchronous active-high reset ``rst``. Protocols: docs/programming-model.md.

    Parameters
    ----------
    geometry: Geometry
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        super().__init__(Ports(geometry))

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        m.submodules.csr = csr = CsrBlock(g)
        m.submodules.sequencer = sequencer = Sequencer(g)
        m.submodules.router = router = Router(g) if g.config.router_layers else None
        m.submodules.predict = predict = prediction_unit(g)
        m.submodules.manager = manager = ExpertManager(g)
        m.submodules.storage = storage = BufferStorage(g)
        m.submodules.dma = dma = PrefetchDma(g)
        m.submodules.array = array = PeArray(g)
        self._ports(m, csr, sequencer, dma, predict)

        # Run-time settings.
        shape = Signal.like(sequencer.shape)
        for field in dict(shape.shape()):
            if field == "base":
                m.d.comb += shape.base.eq(Cat(csr.shape_base_lo, csr.shape_base_hi))
            else:
                m.d.comb += shape[field].eq(getattr(csr, f"shape_{field}"))
        for block in (sequencer, manager, storage, dma, array):
            m.d.comb += block.shape.eq(shape)

        # Data path.
        connect(m, sequencer.routed, manager.routed)
        connect(m, sequencer.observe, predict.observe)
        connect(m, predict.candidates, manager.candidates)
        connect(m, manager.demand, dma.demand)
        connect(m, manager.prefetch, dma.prefetch)
        connect(m, dma.status, manager.status)
        connect(m, manager.work, array.work)
        connect(m, array.release, manager.release)
        connect(m, sequencer.x, array.x)
        connect(m, array.result, sequencer.result_in)
        for index in range(g.config.pes):
            connect(m, array.read[index], storage.read[index])
        m.d.comb += [
            array.start.eq(sequencer.start), array.count.eq(sequencer.count),
            sequencer.failed.eq(manager.layer_failed),
            dma.promote.eq(manager.promote), dma.cancel.eq(manager.cancel),
            manager.cancel_ack.eq(dma.cancel_ack), manager.cancel_beats.eq(dma.cancel_beats),
            storage.fill.eq(dma.fill), storage.progress.eq(dma.progress),
            predict.layers.eq(shape.layers)]
        return m
