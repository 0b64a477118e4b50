"""Layer command sequencer: decodes the command stream and conducts one MoE layer at a time."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import interfaces
from .compute.mapping import ExpertMapping
from .config import Geometry
from .interfaces import GATE_ONE, ErrorCode, Opcode, Phase
from .predict.ports import weight_word
from .router.ahead import route_order
from .shape_check import illegal_shape

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Command words in; routing, activations and table loads out; one layer in flight.

    A layer is received, routed on chip if asked, dispatched to the expert manager and the
    prediction unit, one expert a cycle each, and is over when the array's last result beat
    has been accepted.
    Host routing is dispatched while the activations still arrive. A layer command that cannot run
    (bad layer, expert, token count or shape, router weights missing) still consumes its words and
    answers with one packet of zeros marked as error, so that the host never loses step; where the
    shape is refused, both are of the generated sizes. An unknown opcode consumes its one word.
    A DENSE command is a layer whose experts are the blobs that it names, for all its tokens, of
    which the prediction unit hears nothing; a bad one is refused likewise.
    A layer command of several tokens has its experts dispatched once each, in order of first use,
    when all is known, and is observed as its last token. Wrong token counts consume and answer what
    was announced, of no tokens the packet of one; without ``max_tokens``, what one token has.
    Commands are taken one at a time; ``cmd`` and ``act`` are
    back-pressured meanwhile. Back-pressure on every output is honoured. Reset: idle.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    cmd, act: command words, activation words of ``lanes`` bytes (docs/programming-model.md).
    x, router_x, router_load: activations for array and router, gate weights for the router.
    route, gates: order to the router and its answer.
    token, round: a token begins, for the prediction unit and for the manager.
    routed, observe: experts for the manager and the prediction unit.
    table_load, weights: a row for the correlation table, words of rows of weights.
    start, count: a layer begins on the array, with ``count`` experts.
    last_token, member: to the array, where a command may have many tokens.
    result_in, failed: packet of the array, and whether to replace it by zeros.
    result: packet to the host.
    flush_request, flush_done, clear: FLUSH handshake with the top, and pulse to the
        prediction unit.
    in_layer, receiving, routing, running: phase, for the cycle counters; at most one of the last
        three is set.
    lookahead: setting, whether the router looks ahead behind a layer that it routed, where the
        weights of the next layer are loaded. Only, like the next two, where the configuration can.
    ahead_done: pulse, the last logit of it was taken. looking: it is under way.
    ahead_due: goes with ``observe``.
    error_*: one-cycle report of a refused command.
    token_seen, layer_done: pulses.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        k = g.config.model.top_k
        self.act_bits, self.result_bits = 8 * g.config.lanes, 16 * g.config.rows
        self.gate_layout = data.StructLayout({"expert": g.expert_bits, "gate": 16, "last": 1})
        self.row_layout = data.StructLayout({
            "layer": unsigned(g.layer_bits), "expert": unsigned(g.expert_bits),
            "entries": data.ArrayLayout(16, k)})
        packet = data.StructLayout({"data": self.result_bits, "last": 1})
        answer = data.StructLayout({"data": self.result_bits, "last": 1, "error": 1})
        act = stream.Signature(self.act_bits)
        super().__init__(({} if not g.looks_ahead else {
            "lookahead": In(1), "ahead_done": In(1), "looking": Out(1), "ahead_due": Out(1)}) | (
            {} if not g.token_bits else {
                "last_token": Out(g.token_bits), "member": Out(interfaces.member(g))}) | {
            "cmd": In(stream.Signature(64)), "act": In(act),
            "x": Out(act), "router_x": Out(act), "router_load": Out(act),
            "router_load_start": Out(1), "router_load_layer": Out(g.layer_bits),
            "route": Out(stream.Signature(route_order(g))),
            "gates": In(stream.Signature(self.gate_layout)),
            "token": Out(stream.Signature(interfaces.announcement())),
            "round": Out(stream.Signature(1)),
            "routed": Out(stream.Signature(interfaces.routed(g))),
            "observe": Out(stream.Signature(interfaces.observation(g))),
            "table_load": Out(stream.Signature(self.row_layout)),
            "weights": Out(stream.Signature(weight_word())),
            "start": Out(1), "count": Out(8),
            "result_in": In(stream.Signature(packet)), "failed": In(1),
            "result": Out(stream.Signature(answer)),
            "shape": In(interfaces.shape_layout(g)),
            "flush_request": Out(1), "flush_done": In(1), "clear": Out(1),
            "in_layer": Out(1), "receiving": Out(1), "routing": Out(1), "running": Out(1),
            "error_valid": Out(1), "error_code": Out(8), "error_layer": Out(16),
            "error_expert": Out(16), "error_detail": Out(32),
            "token_seen": Out(1), "layer_done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        g, model = self.geometry, self.geometry.config.model
        k, active, many = model.top_k, g.config.most_experts, bool(g.token_bits)
        shape = self.shape

        experts = Signal(data.ArrayLayout(g.expert_bits, k))
        gates = Signal(data.ArrayLayout(16, k))
        layer, first_token = Signal(16), Signal()
        on_chip, bad, bad_code = Signal(), Signal(), Signal(8)
        bad_expert = Signal(16)
        words, shared, observed = Signal(16), Signal(range(active + 1)), Signal(range(k + 1))
        act_left = Signal(24)
        row_words = -(-k // 4)
        row = Signal(64 * row_words)
        load_expert = Signal(16)
        identity = Signal(32)
        options = g.config.linear
        weight_rows = options.chip_rows(model) if "linear" in g.config.predictor else 0

        header = Signal(data.StructLayout(
            {"opcode": 8, "flag": 1, "phase": 2, "_": 5, "a": 16, "b": 16, "c": 16}))
        announced_blobs = Cat(header.phase, header["_"])  # of DENSE
        m.d.comb += header.as_value().eq(self.cmd.payload)

        def refuse(code, expert=0):
            with m.If(~bad):
                m.d.sync += [bad.eq(1), bad_code.eq(code), bad_expert.eq(expert)]

        # Many tokens: how many there are, which one is routed, whose activations are awaited.
        count, own, last_token = active, k, Const(1)
        if many:
            m.submodules.mapping = mapping = ExpertMapping(g)
            tokens, token, act_tokens = (Signal(16, name=name) for name in (
                "tokens", "routed_token", "act_tokens"))
            act_words, phase = Signal(16), Signal(Phase)
            count, own = mapping.experts + model.shared_units, mapping.experts
            last_token = token + 1 == tokens
            m.d.comb += [
                mapping.routed.token.eq(token), mapping.number.eq(shared),
                self.member.eq(mapping.member), self.last_token.eq(tokens - 1)]

        # Dense weights: as if their blobs, of a matrix or units, were all that is shared.
        if dense_blobs := g.config.dense_blobs:
            dense, matrix, word = Signal(), Signal(), Signal(16)
            first_blob, blobs = Signal(range(g.config.blob_ids)), Signal.like(self.count)
            count, own = Mux(dense, blobs, count), Mux(dense, 0, own)

        # Which layer's gate weights each block of the router holds.
        blocks = max(1, g.config.router_layers)
        loaded = Signal(data.ArrayLayout(
            data.StructLayout({"valid": 1, "layer": g.layer_bits}), blocks))
        block = Signal(range(blocks + 1))
        held = Signal()
        m.d.comb += [block.eq(header.a % blocks),
                     held.eq(loaded[block].valid & (loaded[block].layer == header.a))]

        # Looking ahead takes the weights of the next layer, which are not replaced meanwhile.
        ahead, looking = Signal(), Signal()
        if g.looks_ahead:
            after = loaded[(layer + 1) % blocks]
            m.d.comb += [self.looking.eq(looking), self.ahead_due.eq(ahead)]
            with m.If(self.route.valid & self.route.ready & self.route.payload.ahead):
                m.d.sync += looking.eq(1)
            with m.Elif(self.ahead_done):
                m.d.sync += looking.eq(0)

        # Activations flow on their own once the command is known to be good, or to be drained.
        flow, to_router, to_x = Signal(), Signal(), Signal()
        m.d.comb += [
            self.x.payload.eq(self.act.payload), self.router_x.payload.eq(self.act.payload),
            self.router_load.payload.eq(self.act.payload)]
        act_go = Signal()
        x_sent, router_sent = Signal(), Signal()
        with m.If(flow & (act_left != 0)):
            with m.If(to_x):  # fork to the array and, on demand, the router
                m.d.comb += [
                    self.x.valid.eq(self.act.valid & ~x_sent),
                    self.router_x.valid.eq(self.act.valid & on_chip & ~router_sent),
                    act_go.eq((x_sent | self.x.ready)
                              & (~on_chip | router_sent | self.router_x.ready))]
            with m.Elif(to_router):
                m.d.comb += [self.router_load.valid.eq(self.act.valid),
                             act_go.eq(self.router_load.ready)]
            with m.Else():
                m.d.comb += act_go.eq(1)  # drained: the command was refused
            m.d.comb += self.act.ready.eq(act_go)
            with m.If(self.act.valid):
                m.d.sync += [
                    x_sent.eq(~act_go & (x_sent | (self.x.valid & self.x.ready))),
                    router_sent.eq(
                        ~act_go & (router_sent | (self.router_x.valid & self.router_x.ready)))]
                with m.If(act_go):
                    m.d.sync += act_left.eq(act_left - 1)
                    if many:
                        with m.If((act_left == 1) & (act_tokens != 0)):
                            m.d.sync += [act_left.eq(act_words), act_tokens.eq(act_tokens - 1)]

        m.d.comb += [
            self.route.payload.layer.eq(layer), self.route.payload.route.eq(1),
            self.route.payload.ahead.eq(ahead & last_token if many else ahead),
            self.router_load_layer.eq(layer),
            self.count.eq(count), self.error_layer.eq(layer), self.error_code.eq(bad_code),
            self.error_expert.eq(bad_expert), self.error_detail.eq(Cat(words, layer))]
        m.d.comb += [
            self.routed.payload.layer.eq(layer), self.routed.payload.count.eq(count),
            self.routed.payload.last.eq(shared == count - 1),
            self.observe.payload.layer.eq(layer), self.observe.payload.first_token.eq(first_token),
            self.observe.payload.expert.eq(experts[observed]),
            self.observe.payload.last.eq(observed == k - 1)]
        with m.If(shared < own):
            m.d.comb += self.routed.payload.expert.eq(mapping.expert if many else experts[shared])
            if not many:
                m.d.comb += self.routed.payload.gate.eq(gates[shared])
        with m.Else():
            m.d.comb += [self.routed.payload.expert.eq(model.experts + shared - own),
                         self.routed.payload.shared.eq(1)]
            if not many:
                m.d.comb += self.routed.payload.gate.eq(GATE_ONE)
        if dense_blobs:
            m.d.comb += [self.routed.payload.dense.eq(dense),
                         self.routed.payload.matrix.eq(dense & matrix)]
            with m.If(dense):
                m.d.comb += self.routed.payload.expert.eq(first_blob + shared)
                if not many:
                    m.d.comb += self.routed.payload.gate.eq(Mux(matrix, word, GATE_ONE))
        if many:
            tag = data.View(interfaces.group_tag(), self.routed.payload.gate)
            m.d.comb += [
                self.routed.payload.stream.eq(phase == Phase.PREFILL),
                tag.expert.eq(self.routed.payload.expert),
                tag.others.eq(Mux(self.routed.payload.shared, tokens - 1, mapping.others))]
            if dense_blobs:
                with m.If(dense & matrix):
                    m.d.comb += tag.expert.eq(word)
        m.d.comb += [
            self.table_load.payload.layer.eq(layer), self.table_load.payload.expert.eq(load_expert),
            self.table_load.payload.entries.eq(row)]

        # What goes to other blocks is valid out of registers, which do not wait for the state.
        telling, dispatching, observing = Signal(2), Signal(), Signal()
        answering, refusing, packet_end = Signal(), Signal(), Signal(16)
        m.d.comb += [
            self.token.valid.eq(telling[0]), self.round.valid.eq(telling[1]),
            self.routed.valid.eq(dispatching), self.observe.valid.eq(observing),
            self.token.payload.identity.eq(identity), self.token.payload.known.eq(~identity.all()),
            self.token.payload.first.eq(first_token)]

        m.d.sync += self.clear.eq(0)
        with m.If(dispatching & self.routed.ready):
            m.d.sync += [shared.eq(shared + 1), dispatching.eq(~self.routed.payload.last)]
            if dense_blobs:
                m.d.sync += word.eq(word + shape.matrix_tiles)
        with m.If(observing & self.observe.ready):
            m.d.sync += [observed.eq(observed + 1), observing.eq(~self.observe.payload.last)]

        # The packet: the array's, zeros if an expert failed, or those of a command refused.
        ends, over = words == packet_end, Signal()
        m.d.sync += packet_end.eq(Mux(
            bad_code == ErrorCode.BAD_SHAPE, g.out_groups, shape.out_groups) - 1)
        m.d.comb += [
            self.result.valid.eq(refusing | (answering & self.result_in.valid)),
            self.result_in.ready.eq(answering & self.result.ready),
            self.result.payload.data.eq(
                self.result_in.payload.data & (answering & ~self.failed).replicate(
                    self.result_bits)),
            self.result.payload.last.eq(Mux(
                refusing, ends & (token + 1 >= tokens) if many else ends,
                self.result_in.payload.last)),
            self.result.payload.error.eq(refusing | self.failed),
            over.eq(answering & self.result_in.valid & self.result.ready
                    & self.result_in.payload.last),
            self.layer_done.eq(over & ~dense if dense_blobs else over)]

        layer_commands = [Opcode.LAYER] + [Opcode.DENSE] * bool(dense_blobs)
        is_dense = header.opcode == Opcode.DENSE
        bad_shape = Signal()
        m.d.sync += bad_shape.eq(illegal_shape(g, shape))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.cmd.ready.eq(1)
                with m.If(self.cmd.valid):
                    m.d.sync += [words.eq(0), shared.eq(0), observed.eq(0),
                                 bad_expert.eq(0), layer.eq(header.a), load_expert.eq(header.b),
                                 identity.eq(Cat(header.b, header.c)),
                                 on_chip.eq(0), flow.eq(0), to_x.eq(0), to_router.eq(0)]
                    with m.Switch(header.opcode):
                        with m.Case(Opcode.TOKEN):
                            m.d.sync += [first_token.eq(header.flag), telling.eq(0b11)]
                            m.d.comb += self.token_seen.eq(1)
                            m.next = "TOKEN"
                        with m.Case(*layer_commands):
                            m.d.sync += [on_chip.eq(header.flag), flow.eq(header.flag),
                                         act_left.eq(shape.in_words)]
                            if dense_blobs:
                                with m.If(is_dense):
                                    m.d.sync += [on_chip.eq(0), flow.eq(1)]
                                m.d.sync += [
                                    dense.eq(is_dense), matrix.eq(~header.flag), word.eq(0),
                                    first_blob.eq(model.expert_ids + header.c),
                                    blobs.eq(announced_blobs)]
                            if many:
                                m.d.comb += mapping.clear.eq(1)
                                m.d.sync += [
                                    tokens.eq(header.b), token.eq(0), phase.eq(header.phase),
                                    act_tokens.eq(header.b - 1), act_words.eq(shape.in_words)]
                                with m.If(bad_shape):
                                    m.d.sync += act_words.eq(g.in_words)
                            with m.If(bad_shape):
                                m.d.sync += act_left.eq(g.in_words)
                                refuse(ErrorCode.BAD_SHAPE)
                            with m.Elif(header.a >= shape.layers):
                                refuse(ErrorCode.BAD_LAYER)
                            with m.Elif((header.b == 0) | (header.b > g.config.max_tokens)
                                        if many else header.b != 1):
                                refuse(ErrorCode.BAD_TOKENS)
                            with m.Elif(header.flag & ~held & ~is_dense
                                        if dense_blobs else header.flag & ~held):
                                refuse(ErrorCode.NO_ROUTER_WEIGHTS)
                            if dense_blobs:
                                with m.Elif(is_dense & (
                                        (announced_blobs == 0)
                                        | (announced_blobs > g.config.most_experts)
                                        | (~header.flag & (announced_blobs > shape.matrix_parts))
                                        | (announced_blobs + header.c > dense_blobs))):
                                    refuse(ErrorCode.BAD_DENSE, header.c)
                            with m.Else():
                                m.d.sync += to_x.eq(1)
                            if many:
                                with m.If(header.b == 0):
                                    m.d.sync += act_left.eq(0)
                            m.next = "RECEIVE"
                        with m.Case(Opcode.LOAD_ROUTER):
                            m.d.sync += act_left.eq(model.experts * g.in_words)
                            if many:
                                m.d.sync += act_tokens.eq(0)
                            m.next = "LOAD-ROUTER-START"
                            if g.config.router_layers:
                                with m.If(header.a < shape.layers):
                                    m.d.sync += to_router.eq(1)
                                with m.Else():
                                    refuse(ErrorCode.BAD_LAYER)
                            else:
                                refuse(ErrorCode.NO_ROUTER_WEIGHTS)
                        with m.Case(Opcode.LOAD_TABLE):
                            with m.If(header.a + 1 >= shape.layers):
                                refuse(ErrorCode.BAD_LAYER)
                            with m.Elif(header.b >= shape.experts):
                                refuse(ErrorCode.BAD_EXPERT, header.b)
                            m.next = "LOAD-TABLE"
                        with m.Case(Opcode.FLUSH):
                            m.next = "FLUSH"
                        if weight_rows:
                            with m.Case(Opcode.LOAD_WEIGHTS):
                                with m.If(Cat(header.b, header.c) >= weight_rows):
                                    refuse(ErrorCode.BAD_ROW)
                                m.next = "LOAD-WEIGHTS"
                        with m.Default():
                            refuse(ErrorCode.BAD_OPCODE)
                            m.next = "REPORT"

            with m.State("TOKEN"):
                m.d.sync += telling.eq(telling & ~Cat(self.token.ready, self.round.ready))
                with m.If(telling == 0):
                    m.next = "IDLE"

            with m.State("RECEIVE"):
                m.d.comb += [self.in_layer.eq(1), self.receiving.eq(1)]
                if g.looks_ahead:
                    m.d.sync += ahead.eq(
                        on_chip & self.lookahead & (layer + 1 < shape.layers)
                        & after.valid & (after.layer == layer + 1))
                known = on_chip | ((token == tokens) if many else (words == k))
                with m.If(known | dense if dense_blobs else known):
                    m.d.sync += flow.eq(1)
                    with m.If(bad):
                        m.d.sync += to_x.eq(0)
                        with m.If(flow & (act_left == 0)):
                            m.d.sync += words.eq(0)
                            if many:
                                m.d.sync += token.eq(0)
                            m.d.sync += refusing.eq(1)
                            m.next = "REFUSED"
                    with m.Elif(~on_chip):
                        m.next = "BEGIN"
                    with m.Elif(1 if many else act_left == 0):
                        m.next = "ROUTE"
                with m.Else():
                    m.d.comb += self.cmd.ready.eq(1)
                    with m.If(self.cmd.valid):
                        m.d.sync += words.eq(words + 1)
                        for i in range(k):
                            with m.If(words == i):
                                m.d.sync += [experts[i].eq(self.cmd.payload[:16]),
                                             gates[i].eq(self.cmd.payload[16:32])]
                        if many:
                            repeated = mapping.repeated
                            m.d.comb += [
                                mapping.routed.valid.eq(self.cmd.payload[:16] < shape.experts),
                                mapping.routed.expert.eq(self.cmd.payload[:16]),
                                mapping.routed.gate.eq(self.cmd.payload[16:32])]
                            with m.If(words == k - 1):
                                m.d.sync += [words.eq(0), token.eq(token + 1)]
                        else:
                            repeated = Cat(*((words > i) & (experts[i] == self.cmd.payload[:16])
                                             for i in range(k))).any()
                        with m.If((self.cmd.payload[:16] >= shape.experts) | repeated):
                            refuse(ErrorCode.BAD_EXPERT, self.cmd.payload[:16])

            with m.State("ROUTE"):
                m.d.comb += [self.in_layer.eq(1), self.routing.eq(1), self.route.valid.eq(1)]
                with m.If(self.route.ready):
                    m.next = "GATES"
            with m.State("GATES"):
                m.d.comb += [self.in_layer.eq(1), self.routing.eq(1), self.gates.ready.eq(1)]
                with m.If(self.gates.valid):
                    for i in range(k):
                        with m.If(words == i):
                            m.d.sync += [experts[i].eq(self.gates.payload.expert),
                                         gates[i].eq(self.gates.payload.gate)]
                    m.d.sync += words.eq(words + 1)
                    if many:
                        m.d.comb += [mapping.routed.valid.eq(1),
                                     mapping.routed.expert.eq(self.gates.payload.expert),
                                     mapping.routed.gate.eq(self.gates.payload.gate)]
                    with m.If(self.gates.payload.last):
                        m.next = "BEGIN"
                        if many:
                            m.d.sync += [words.eq(0), token.eq(token + 1)]
                            with m.If(~last_token):
                                m.next = "ROUTE"

            with m.State("BEGIN"):
                m.d.comb += [self.in_layer.eq(1), self.running.eq(1), self.start.eq(1)]
                m.d.sync += [dispatching.eq(1), answering.eq(1),
                             observing.eq(~dense if dense_blobs else 1)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.in_layer.eq(1), self.running.eq(1)]
                with m.If(over):
                    m.d.sync += answering.eq(0)
                    m.next = "FINISH"
            with m.State("FINISH"):  # the prediction unit may still be learning
                with m.If(~observing):
                    m.next = "IDLE"

            with m.State("REFUSED"):  # a packet of zeros, as long as a good one
                m.d.comb += [self.in_layer.eq(1), self.running.eq(1)]
                with m.If(self.result.ready):
                    m.d.sync += words.eq(words + 1)
                    if many:
                        with m.If(ends):
                            m.d.sync += [words.eq(0), token.eq(token + 1)]
                    with m.If(self.result.payload.last):
                        m.d.sync += refusing.eq(0)
                        m.next = "REPORT"

            with m.State("LOAD-ROUTER-START"), m.If(~looking):
                m.d.comb += [self.router_load_start.eq(~bad), block.eq(layer % blocks)]
                m.d.sync += flow.eq(1)  # weights follow the pulse
                with m.If(~bad):
                    m.d.sync += [loaded[block].valid.eq(1), loaded[block].layer.eq(layer)]
                m.next = "LOAD-ROUTER"
            with m.State("LOAD-ROUTER"):
                with m.If(act_left == 0):
                    m.next = "IDLE"
                    with m.If(bad):
                        m.next = "REPORT"
            with m.State("LOAD-TABLE"):
                m.d.comb += self.cmd.ready.eq(words != row_words)
                with m.If(words == row_words):
                    m.d.comb += self.table_load.valid.eq(~bad)
                    with m.If(bad):
                        m.next = "REPORT"
                    with m.Elif(self.table_load.ready):
                        m.next = "IDLE"
                with m.Elif(self.cmd.valid):
                    m.d.sync += [words.eq(words + 1), row.eq(Cat(row, self.cmd.payload)[64:])]
            if weight_rows:
                with m.State("LOAD-WEIGHTS"):
                    last = words == options.row_words(model) - 1
                    m.d.comb += [
                        self.weights.payload.row.eq(identity), self.weights.payload.last.eq(last),
                        self.weights.payload.data.eq(self.cmd.payload),
                        self.weights.valid.eq(self.cmd.valid & ~bad),
                        self.cmd.ready.eq(self.weights.ready | bad)]
                    with m.If(self.cmd.valid & self.cmd.ready):
                        m.d.sync += words.eq(words + 1)
                        with m.If(last):
                            m.next = "IDLE"
                            with m.If(bad):
                                m.next = "REPORT"
            with m.State("FLUSH"):
                m.d.comb += self.flush_request.eq(1)
                with m.If(self.flush_done):
                    m.d.sync += self.clear.eq(1)
                    m.next = "CLEAR"
            with m.State("CLEAR"):  # still busy: what was learnt is about to be written back
                m.d.comb += self.flush_request.eq(1)
                m.next = "IDLE"
            with m.State("REPORT"):
                m.d.comb += self.error_valid.eq(1)
                m.d.sync += bad.eq(0)
                m.next = "IDLE"
        return m
