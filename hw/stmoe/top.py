"""The accelerator: blocks wired together behind plain AXI ports."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Member, Out, connect

from .buffer.manager import ExpertManager
from .buffer.storage import BufferStorage
from .bus.axi_share import AxiShare
from .bus.csr import CsrBlock
from .compute.array import PeArray
from .config import Geometry
from .interfaces import ErrorCode
from .predict import PredictionUnit
from .predict.ports import COUNTERS
from .prefetch.dma import PrefetchDma
from .router.router import Router
from .sequencer import Sequencer

__all__ = ["Accelerator", "Ports"]

MEMORY = 0b0011  # AxCACHE: normal, non-cacheable, bufferable


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
            "predict_expert": Out(g.expert_bits), "predict_score": Out(signed(g.score_bits)),
            "predict_end": Out(1)} | ({} if not g.streams_rows else {
                f"m_axi_{name}": member for name, member in self.writes(g).items()}))

    @staticmethod
    def writes(g: Geometry) -> dict[str, Member]:
        """The write channels, which only a netlist that streams rows of weights has."""
        c = g.config
        return {
            "awaddr": Out(c.axi_addr_bits), "awid": Out(g.id_bits), "awlen": Out(8),
            "awsize": Out(3), "awburst": Out(2), "awlock": Out(1), "awcache": Out(4),
            "awprot": Out(3), "awqos": Out(4), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(c.axi_data_bits), "wstrb": Out(c.axi_data_bits // 8), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(g.id_bits), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}


class Accelerator(wiring.Component):
    """A whole accelerator for one configuration.

    AXI4-Lite registers, AXI4-Stream commands, activations and results, an AXI4 manager to expert
    memory, which only writes if rows of weights are streamed, an interrupt line, and two
    observation ports (``event_*``: decisions of the expert manager, ``predict_*``: candidates taken
    from the prediction unit) that may be left open.
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
        m.submodules.predictor = predict = PredictionUnit(g)
        m.submodules.manager = manager = ExpertManager(g)
        m.submodules.storage = storage = BufferStorage(g)
        m.submodules.dma = dma = PrefetchDma(g)
        m.submodules.array = array = PeArray(g)
        self._streams(m, sequencer, csr.ctrl_enable)
        self._registers(m, csr)
        self._expert_memory(m, csr, dma, predict)

        # Run-time settings. Of experts that stream through nothing is kept, and none fetched ahead.
        shape = Signal.like(sequencer.shape)
        retain, prefetch = csr.ctrl_retain, csr.ctrl_prefetch
        if g.has_ring:
            ring, group = Signal(), Signal.like(csr.shape_group)
            m.d.sync += [ring.eq(csr.shape_group == g.half + 1),
                         group.eq(Mux(csr.shape_group == g.half + 1, g.half, csr.shape_group))]
            retain, prefetch = retain & ~ring, prefetch & ~ring
        for field, _ in shape.shape():
            if field == "base":
                m.d.comb += shape.base.eq(Cat(csr.shape_base_lo, csr.shape_base_hi))
            elif g.has_ring and field in ("ring", "group"):
                m.d.comb += shape[field].eq({"ring": ring, "group": group}[field])
            else:
                m.d.comb += shape[field].eq(getattr(csr, f"shape_{field}"))
        for block in (sequencer, manager, storage, dma, array):
            m.d.comb += block.shape.eq(shape)

        # Data path.
        for source, sink in (
                (sequencer.round, manager.token),
                (sequencer.observe, predict.observe), (sequencer.table_load, predict.load),
                (sequencer.weights, predict.weights),
                (sequencer.routed, manager.routed),
                (manager.demand, dma.demand), (manager.prefetch, dma.prefetch),
                (dma.status, manager.status), (manager.work, array.work),
                (array.release, manager.release), (sequencer.x, array.x),
                (array.result, sequencer.result_in)):
            connect(m, source, sink)
        for index in range(g.config.pes):
            connect(m, array.read[index], storage.read[index])
            if g.has_ring:
                m.d.comb += dma.passed[index].eq(array.passed[index])
        token = predict.token.payload  # of which no rows are moved, where it is not known
        candidates, taken = predict.candidates, Signal()  # which they hear of a cycle later
        m.d.comb += [manager.candidates.payload.eq(candidates.payload),
                     manager.candidates.valid.eq(candidates.valid & ~taken),
                     candidates.ready.eq(taken)]
        m.d.sync += taken.eq(manager.candidates.valid & manager.candidates.ready)
        m.d.comb += [
            predict.token.valid.eq(sequencer.token.valid),
            sequencer.token.ready.eq(predict.token.ready),
            token.eq(sequencer.token.payload),
            token.known.eq(sequencer.token.payload.known & ~manager.rows_withheld),
            *([array.last_token.eq(sequencer.last_token), array.member.eq(sequencer.member)]
              if g.token_bits else []),
            array.start.eq(sequencer.start), array.count.eq(sequencer.count),
            sequencer.failed.eq(manager.layer_failed),
            dma.promote.eq(manager.promote), dma.cancel.eq(manager.cancel),
            manager.cancel_ack.eq(dma.cancel_ack), manager.cancel_beats.eq(dma.cancel_beats),
            manager.cancel_landed.eq(dma.cancel_landed),
            storage.fill.eq(dma.fill), storage.progress.eq(dma.progress),
            manager.retain.eq(retain), manager.retention.eq(csr.ctrl_retention),
            manager.link_idle.eq(~dma.active), manager.link_beat.eq(dma.beats),
            manager.link_demanded.eq(dma.demanding), manager.worth.eq(csr.ctrl_worth),
            manager.worth_floor.eq(csr.worth_floor),
            manager.rows_slack.eq(Mux(csr.ctrl_predict & (csr.ctrl_predictor == 1),
                                      csr.rows_slack, 0) if g.streams_identities else 0),
            manager.counted.eq(
                (csr.ctrl_predictor == 0) if "linear" in g.config.predictor else 1),
            predict.select.eq(csr.ctrl_predictor),
            *(predict.settings[name].eq(value) for name, value in {
                "enable": csr.ctrl_predict, "use_cct": csr.ctrl_use_cct,
                "use_ht": csr.ctrl_use_ht, "threshold": csr.threshold,
                "linear_threshold": csr.linear_threshold, "deep_threshold": csr.deep_threshold,
                "limit": csr.prediction_limit, "depth": csr.prediction_depth,
                "token_depth": csr.prediction_token_depth, "guess": csr.prediction_guess,
                "lookahead": csr.ctrl_lookahead,
                "layers": shape.layers, "experts": shape.experts}.items())]
        if g.config.router_layers:
            self._router(m, csr, sequencer, predict, shape)

        # FLUSH waits until nothing is on its way; meanwhile nothing new is prefetched.
        quiet = Signal(5)
        busy = Signal()
        m.d.sync += busy.eq(sequencer.in_layer | dma.active | ~manager.idle | predict.busy
                            | sequencer.clear  # upon which rows are written back
                            | (sequencer.looking if g.looks_ahead else 0))
        m.d.comb += [
            manager.prefetch_enable.eq(prefetch & ~sequencer.flush_request)]
        flushing, flushed = Signal(), Signal()
        with m.If(~sequencer.flush_request | busy):
            m.d.sync += quiet.eq(0)
        with m.Elif(~quiet.all()):
            m.d.sync += quiet.eq(quiet + 1)
        m.d.sync += flushed.eq(flushing & ~manager.flushing & ~flushed)
        m.d.comb += [manager.flush.eq(quiet.all() & ~flushing), sequencer.flush_done.eq(flushed),
                     predict.clear.eq(sequencer.clear)]
        with m.If(manager.flush):
            m.d.sync += flushing.eq(1)
        with m.Elif(flushed):
            m.d.sync += [flushing.eq(0), quiet.eq(0)]

        # Observation, errors, interrupt.
        failed_before, failing = Signal(), Signal()
        error = Signal(data.StructLayout(  # that the registers take a cycle later
            {"valid": 1, **{name: getattr(csr, f"error_{name}").shape()
                            for name in ("code", "layer", "expert", "detail")}}))
        m.d.comb += [
            self.event_valid.eq(manager.event.valid),
            *(getattr(self, f"event_{name}").eq(manager.event.payload[name])
              for name in ("kind", "layer", "expert", "slot", "arg")),
            self.predict_valid.eq(candidates.valid & candidates.ready),
            *(getattr(self, f"predict_{name}").eq(candidates.payload[name])
              for name in ("layer", "expert", "score", "end")),
            csr.status_busy.eq(busy | sequencer.flush_request),
            csr.status_flushing.eq(flushing | manager.flushing),
            failing.eq(manager.layer_failed & ~failed_before),
            error.valid.eq(sequencer.error_valid | failing),
            error.code.eq(Mux(
                sequencer.error_valid, sequencer.error_code,
                Mux(manager.failed_corrupt, ErrorCode.CORRUPT, ErrorCode.BUS))),
            error.layer.eq(
                Mux(sequencer.error_valid, sequencer.error_layer, manager.failed_layer)),
            error.expert.eq(
                Mux(sequencer.error_valid, sequencer.error_expert, manager.failed_expert)),
            error.detail.eq(
                Mux(sequencer.error_valid, sequencer.error_detail, manager.failed_tile))]
        if g.streams_rows:
            row_error = Signal.like(predict.port.error)
            m.d.sync += row_error.eq(predict.port.error)
            with m.If(row_error.valid & ~sequencer.error_valid & ~failing):
                m.d.comb += [
                    error.valid.eq(1), error.code.eq(ErrorCode.ROW_BUS),
                    error.layer.eq(row_error.layer), error.expert.eq(0), error.detail.eq(0)]
        m.d.sync += [getattr(csr, f"error_{name}").eq(error[name])
                     for name in error.shape().members]
        m.d.sync += failed_before.eq(manager.layer_failed)
        m.d.sync += self.irq.eq(csr.ctrl_irq_enable & (csr.error != 0))
        self._counters(m, csr, sequencer, predict, manager, storage, dma, array)
        self._first_beats(m, csr, dma)
        return m

    def _streams(self, m, sequencer, enable):
        m.d.comb += [
            sequencer.cmd.payload.eq(self.s_axis_cmd_tdata),
            sequencer.cmd.valid.eq(self.s_axis_cmd_tvalid & enable),
            self.s_axis_cmd_tready.eq(sequencer.cmd.ready & enable),
            sequencer.act.payload.eq(self.s_axis_act_tdata),
            sequencer.act.valid.eq(self.s_axis_act_tvalid),
            self.s_axis_act_tready.eq(sequencer.act.ready),
            self.m_axis_res_tdata.eq(sequencer.result.payload.data),
            self.m_axis_res_tlast.eq(sequencer.result.payload.last),
            self.m_axis_res_tuser.eq(sequencer.result.payload.error),
            self.m_axis_res_tvalid.eq(sequencer.result.valid),
            sequencer.result.ready.eq(self.m_axis_res_tready)]

    def _registers(self, m, csr):
        for name, member in csr.signature.members.items():
            port = f"s_axil_{name}"
            if port in self.signature.members:
                inner, outer = getattr(csr, name), getattr(self, port)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)

    def _expert_memory(self, m, csr, dma, predict):
        reader = dma.axi
        if self.geometry.streams_rows:
            port = predict.port
            m.submodules.share = share = AxiShare(self.geometry, self.geometry.config.outstanding)
            connect(m, dma.axi, share.first)
            connect(m, port.read, share.second)
            reader = share.axi
            aw, w, b = port.write.aw, port.write.w, port.write.b
            m.d.comb += [
                *(getattr(self, f"m_axi_aw{name}").eq(aw.payload[name])
                  for name in ("addr", "id", "len", "size", "burst")),
                self.m_axi_awcache.eq(MEMORY), self.m_axi_awvalid.eq(aw.valid),
                aw.ready.eq(self.m_axi_awready),
                *(getattr(self, f"m_axi_w{name}").eq(w.payload[name])
                  for name in ("data", "strb", "last")),
                self.m_axi_wvalid.eq(w.valid), w.ready.eq(self.m_axi_wready),
                *(b.payload[name].eq(getattr(self, f"m_axi_b{name}")) for name in ("id", "resp")),
                b.valid.eq(self.m_axi_bvalid), self.m_axi_bready.eq(b.ready),
                port.base.eq(Cat(csr.lexical_base_lo, csr.lexical_base_hi)),
                csr.inc_row_beats_read.eq(port.beats_read),
                csr.inc_row_beats_written.eq(port.beats_written)]
        ar, r = reader.ar, reader.r
        m.d.comb += [
            *(getattr(self, f"m_axi_ar{name}").eq(ar.payload[name])
              for name in ("addr", "id", "len", "size", "burst")),
            self.m_axi_arcache.eq(MEMORY),
            self.m_axi_arvalid.eq(ar.valid), ar.ready.eq(self.m_axi_arready),
            *(r.payload[name].eq(getattr(self, f"m_axi_r{name}"))
              for name in ("data", "id", "resp", "last")),
            r.valid.eq(self.m_axi_rvalid), self.m_axi_rready.eq(r.ready)]

    def _router(self, m, csr, sequencer, predict, shape):
        ahead = self.geometry.looks_ahead
        m.submodules.router = router = Router(self.geometry, lookahead=ahead)
        for source, sink in ((sequencer.router_x, router.x), (sequencer.router_load, router.load),
                             (sequencer.route, router.route), (router.gates, sequencer.gates)):
            connect(m, source, sink)
        m.d.comb += [
            router.load_start.eq(sequencer.router_load_start),
            router.load_layer.eq(sequencer.router_load_layer),
            router.in_words.eq(shape.in_words), router.experts.eq(shape.experts),
            router.mode.eq(csr.router_mode), router.renormalise.eq(csr.router_renormalise),
            router.mult.eq(csr.router_scale_mult), router.shift.eq(csr.router_scale_shift)]
        if ahead:
            connect(m, router.ahead, predict.ahead)
            logit = router.ahead
            m.d.comb += [
                router.ahead_mult.eq(csr.router_scale_next_mult),
                router.ahead_shift.eq(csr.router_scale_next_shift),
                sequencer.lookahead.eq(csr.ctrl_lookahead),
                sequencer.ahead_done.eq(logit.valid & logit.ready & logit.payload.last),
                predict.ahead_due.eq(sequencer.ahead_due)]

    def _first_beats(self, m, csr, dma):
        """How long demands wait for their first beat: how many, in all, and at worst."""
        first, worst = dma.first_beat, Signal.like(dma.first_beat.cycles)
        worse = first.valid & (first.cycles > worst)
        with m.If(csr.counter_ctrl_clear):
            m.d.sync += worst.eq(0)
        with m.Elif(worse):
            m.d.sync += worst.eq(first.cycles)
        m.d.comb += [
            csr.inc_first_beats.eq(first.valid),
            csr.inc_first_beat_cycles.eq(Mux(first.valid, first.cycles, 0)),
            csr.inc_first_beat_worst.eq(Mux(worse, first.cycles - worst, 0))]

    def _counters(self, m, csr, sequencer, predict, manager, storage, dma, array):
        running = sequencer.running
        blocked = sequencer.result.valid & ~sequencer.result.ready
        causes = (  # the first that holds counts the cycle
            ("attention", ~sequencer.in_layer), ("receive", sequencer.receiving),
            ("route", sequencer.routing), ("output", blocked),
            ("merge", array.merging | sequencer.result.valid), ("compute", array.active),
            ("stall_demand", manager.waiting_demand), ("stall_late", manager.waiting_late),
            ("verify", running))
        # A cycle late: what holds is decided through several blocks. Attention holds at reset.
        held = Signal(len(causes), init=1)
        m.d.sync += held.eq(Cat(holds for _, holds in causes))
        counts = {"cycles_total": C(1)}
        for index, (name, _) in enumerate(causes):
            counts[f"cycles_{name}"] = held[index] & ~held[:index].any()
        for name in ("routed", "hit_resident", "hit_prefetched", "hit_late", "missed", "shared_hit",
                     "shared_late", "shared_missed", "prefetches", "skipped", "cancelled",
                     "dropped", "evictions", "beats_demand", "beats_useful", "beats_wasted",
                     "failed", "map_reads", "rows_withheld"):
            counts[name] = getattr(manager, f"inc_{name}")
        counts |= {
            "beats_link": dma.beats, "bursts": dma.bursts, "retries": dma.retried,
            "corrupted": dma.corrupted, "dma_active": dma.active,
            **{name: getattr(predict, name) for name in COUNTERS},
            "mac_words": array.mac_words, "side_reads": array.side_reads,
            "bank_reads": storage.bank_reads, "bank_writes": storage.bank_writes,
            "layers_done": sequencer.layer_done, "tokens": sequencer.token_seen}
        for name, value in counts.items():
            increment = getattr(csr, f"inc_{name}")
            if len(value) > len(increment):
                raise ValueError(f"counter {name} takes {len(increment)} bits, not {len(value)}")
            m.d.comb += increment.eq(value)
