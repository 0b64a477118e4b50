"""What the sequencer knows of the command in work, and what it offers to other blocks of it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring

from .. import interfaces
from ..compute.mapping import ExpertMapping
from ..config import Geometry
from ..interfaces import GATE_ONE, ErrorCode, Phase

__all__ = ["Command"]


class Command:
    """State of the sequencer beside that of its FSM, and what follows from it; no component.

    Parameters
    ----------
    m: module of the sequencer, to which everything is added. ports: the sequencer. geometry.

    Attributes
    ----------
    config, model, k, many, dense_blobs: of the configuration; may a command have many tokens?
    header: fields of the word on ``cmd``. layer, load_expert, identity, first_token, on_chip: what
        it said. words: taken of the command, or sent of its packet.
    bad, bad_code: the command is refused, and why.
    experts, gates: as routed, of the last token. shared, observed: handed out to the manager, and
        to the prediction unit. count: to be handed out.
    mapping, tokens, token, act_tokens, act_words, phase, last_token: only of many tokens: their
        grouping by expert; how many; which one is routed; how many more have activations to come,
        of so many words; the phase; is the token the last?
    dense, matrix, word, first_blob, blobs, announced_blobs: only where there are dense weights.
        Their blobs, of a matrix or units, are handed out as if they were all that is shared.
    blocks, loaded, block, held: blocks of the router, whose gate weights each has, and the one that
        the header's layer would be in, or is.
    ahead, looking: the router is to look ahead; does so. after: the block of the next layer.
    flow, to_router, to_x, act_left: activations flow on their own once the command is known to be
        good, or to be drained; where to; words that are left.
    telling, dispatching, observing, answering, refusing: what goes to other blocks is valid out of
        these registers, which do not wait for the state. ends, over: a packet of zeros, or the
        array's, is at its last word.
    row, row_words: of the correlation table.
    """

    def __init__(self, m: Module, ports: wiring.Component, geometry: Geometry):
        self.m, self.ports, self.geometry = m, ports, geometry
        self.config, self.model = geometry.config, geometry.config.model
        self.k, self.many = self.model.top_k, bool(geometry.token_bits)
        self.dense_blobs = self.config.dense_blobs
        self._fields()
        self._tokens()
        self._router()
        self._activations()
        self._payloads()
        self._offers()

    def refuse(self, code, expert=0):
        """The command is refused, unless it is already."""
        m = self.m
        with m.If(~self.bad):
            m.d.sync += [self.bad.eq(1), self.bad_code.eq(code), self.bad_expert.eq(expert)]

    def _fields(self):
        g, k = self.geometry, self.k
        self.experts = Signal(data.ArrayLayout(g.expert_bits, k))
        self.gates = Signal(data.ArrayLayout(16, k))
        self.layer, self.first_token = Signal(16), Signal()
        self.on_chip, self.bad, self.bad_code = Signal(), Signal(), Signal(8)
        self.bad_expert = Signal(16)
        self.words, self.shared = Signal(16), Signal(range(self.config.most_experts + 1))
        self.observed = Signal(range(k + 1))
        self.act_left = Signal(24)
        self.row_words = -(-k // 4)
        self.row = Signal(64 * self.row_words)
        self.load_expert = Signal(16)
        self.identity = Signal(32)
        self.header = header = Signal(data.StructLayout(
            {"opcode": 8, "flag": 1, "phase": 2, "_": 5, "a": 16, "b": 16, "c": 16}))
        self.announced_blobs = Cat(header.phase, header["_"])
        self.m.d.comb += header.as_value().eq(self.ports.cmd.payload)

    def _tokens(self):
        """How many experts there are to hand out, and how many of them are the command's own."""
        m, ports, model = self.m, self.ports, self.model
        self.count, self.own, self.last_token = self.config.most_experts, self.k, Const(1)
        if self.many:
            m.submodules.mapping = mapping = self.mapping = ExpertMapping(self.geometry)
            self.tokens, self.token, self.act_tokens = (Signal(16, name=name) for name in (
                "tokens", "routed_token", "act_tokens"))
            self.act_words, self.phase = Signal(16), Signal(Phase)
            self.count, self.own = mapping.experts + model.shared_units, mapping.experts
            self.last_token = self.token + 1 == self.tokens
            m.d.comb += [
                mapping.routed.token.eq(self.token), mapping.number.eq(self.shared),
                ports.member.eq(mapping.member), ports.last_token.eq(self.tokens - 1)]
        if self.dense_blobs:
            self.dense, self.matrix, self.word = Signal(), Signal(), Signal(16)
            self.first_blob = Signal(range(self.config.blob_ids))
            self.blobs = Signal.like(ports.count)
            self.count = Mux(self.dense, self.blobs, self.count)
            self.own = Mux(self.dense, 0, self.own)

    def _router(self):
        m, g, ports = self.m, self.geometry, self.ports
        self.blocks = max(1, self.config.router_layers)
        self.loaded = Signal(data.ArrayLayout(
            data.StructLayout({"valid": 1, "layer": g.layer_bits}), self.blocks))
        self.block = Signal(range(self.blocks + 1))
        self.held = Signal()
        at = self.loaded[self.block]
        m.d.comb += [self.block.eq(self.header.a % self.blocks),
                     self.held.eq(at.valid & (at.layer == self.header.a))]

        # Looking ahead takes the weights of the next layer, which are not replaced meanwhile.
        self.ahead, self.looking = Signal(), Signal()
        if g.looks_ahead:
            self.after = self.loaded[(self.layer + 1) % self.blocks]
            m.d.comb += [ports.looking.eq(self.looking), ports.ahead_due.eq(self.ahead)]
            with m.If(ports.route.valid & ports.route.ready & ports.route.payload.ahead):
                m.d.sync += self.looking.eq(1)
            with m.Elif(ports.ahead_done):
                m.d.sync += self.looking.eq(0)

    def _activations(self):
        m, ports = self.m, self.ports
        self.flow, self.to_router, self.to_x = Signal(), Signal(), Signal()
        m.d.comb += [
            ports.x.payload.eq(ports.act.payload), ports.router_x.payload.eq(ports.act.payload),
            ports.router_load.payload.eq(ports.act.payload)]
        act_go = Signal()
        x_sent, router_sent = Signal(), Signal()
        with m.If(self.flow & (self.act_left != 0)):
            with m.If(self.to_x):  # fork to the array and, on demand, the router
                m.d.comb += [
                    ports.x.valid.eq(ports.act.valid & ~x_sent),
                    ports.router_x.valid.eq(ports.act.valid & self.on_chip & ~router_sent),
                    act_go.eq((x_sent | ports.x.ready)
                              & (~self.on_chip | router_sent | ports.router_x.ready))]
            with m.Elif(self.to_router):
                m.d.comb += [ports.router_load.valid.eq(ports.act.valid),
                             act_go.eq(ports.router_load.ready)]
            with m.Else():
                m.d.comb += act_go.eq(1)  # drained: the command was refused
            m.d.comb += ports.act.ready.eq(act_go)
            with m.If(ports.act.valid):
                m.d.sync += [
                    x_sent.eq(~act_go & (x_sent | (ports.x.valid & ports.x.ready))),
                    router_sent.eq(~act_go & (
                        router_sent | (ports.router_x.valid & ports.router_x.ready)))]
                with m.If(act_go):
                    m.d.sync += self.act_left.eq(self.act_left - 1)
                    if self.many:
                        with m.If((self.act_left == 1) & (self.act_tokens != 0)):
                            m.d.sync += [self.act_left.eq(self.act_words),
                                         self.act_tokens.eq(self.act_tokens - 1)]

    def _payloads(self):
        m, ports, model, many = self.m, self.ports, self.model, self.many
        layer, shared, observed = self.layer, self.shared, self.observed
        routed, observe, count, own = (ports.routed.payload, ports.observe.payload, self.count,
                                       self.own)
        m.d.comb += [
            ports.route.payload.layer.eq(layer), ports.route.payload.route.eq(1),
            ports.route.payload.ahead.eq(self.ahead & self.last_token if many else self.ahead),
            ports.router_load_layer.eq(layer),
            ports.count.eq(count), ports.error_layer.eq(layer), ports.error_code.eq(self.bad_code),
            ports.error_expert.eq(self.bad_expert), ports.error_detail.eq(Cat(self.words, layer))]
        m.d.comb += [
            routed.layer.eq(layer), routed.count.eq(count),
            routed.last.eq(shared == count - 1),
            observe.layer.eq(layer), observe.first_token.eq(self.first_token),
            observe.expert.eq(self.experts[observed]),
            observe.last.eq(observed == self.k - 1)]
        with m.If(shared < own):
            m.d.comb += routed.expert.eq(self.mapping.expert if many else self.experts[shared])
            if not many:
                m.d.comb += routed.gate.eq(self.gates[shared])
        with m.Else():
            m.d.comb += [routed.expert.eq(model.experts + shared - own), routed.shared.eq(1)]
            if not many:
                m.d.comb += routed.gate.eq(GATE_ONE)
        if self.dense_blobs:
            m.d.comb += [routed.dense.eq(self.dense), routed.matrix.eq(self.dense & self.matrix)]
            with m.If(self.dense):
                m.d.comb += routed.expert.eq(self.first_blob + shared)
                if not many:
                    m.d.comb += routed.gate.eq(Mux(self.matrix, self.word, GATE_ONE))
        if many:
            tag = data.View(interfaces.group_tag(), routed.gate)
            m.d.comb += [
                routed.stream.eq(self.phase == Phase.PREFILL), tag.expert.eq(routed.expert),
                tag.others.eq(Mux(routed.shared, self.tokens - 1, self.mapping.others))]
            if self.dense_blobs:
                with m.If(self.dense & self.matrix):
                    m.d.comb += tag.expert.eq(self.word)
        m.d.comb += [
            ports.table_load.payload.layer.eq(layer),
            ports.table_load.payload.expert.eq(self.load_expert),
            ports.table_load.payload.entries.eq(self.row)]

    def _offers(self):
        m, g, ports = self.m, self.geometry, self.ports
        self.telling, self.dispatching, self.observing = Signal(2), Signal(), Signal()
        self.answering, self.refusing, packet_end = Signal(), Signal(), Signal(16)
        telling, answering, refusing = self.telling, self.answering, self.refusing
        m.d.comb += [
            ports.token.valid.eq(telling[0]), ports.round.valid.eq(telling[1]),
            ports.routed.valid.eq(self.dispatching), ports.observe.valid.eq(self.observing),
            ports.token.payload.identity.eq(self.identity),
            ports.token.payload.known.eq(~self.identity.all()),
            ports.token.payload.first.eq(self.first_token)]
        m.d.sync += ports.clear.eq(0)
        with m.If(self.dispatching & ports.routed.ready):
            m.d.sync += [self.shared.eq(self.shared + 1),
                         self.dispatching.eq(~ports.routed.payload.last)]
            if self.dense_blobs:
                m.d.sync += self.word.eq(self.word + ports.shape.matrix_tiles)
        with m.If(self.observing & ports.observe.ready):
            m.d.sync += [self.observed.eq(self.observed + 1),
                         self.observing.eq(~ports.observe.payload.last)]

        # The packet: the array's, zeros if an expert failed, or those of a command refused.
        result, given = ports.result, ports.result_in
        self.ends, self.over = ends, over = self.words == packet_end, Signal()
        m.d.sync += packet_end.eq(Mux(
            self.bad_code == ErrorCode.BAD_SHAPE, g.out_groups, ports.shape.out_groups) - 1)
        m.d.comb += [
            result.valid.eq(refusing | (answering & given.valid)),
            given.ready.eq(answering & result.ready),
            result.payload.data.eq(given.payload.data & (answering & ~ports.failed).replicate(
                ports.result_bits)),
            result.payload.last.eq(Mux(
                refusing, ends & (self.token + 1 >= self.tokens) if self.many else ends,
                given.payload.last)),
            result.payload.error.eq(refusing | ports.failed),
            over.eq(answering & given.valid & result.ready & given.payload.last),
            ports.layer_done.eq(over & ~self.dense if self.dense_blobs else over)]
