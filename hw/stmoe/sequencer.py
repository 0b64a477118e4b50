"""Layer command sequencer: decodes the command stream and conducts one MoE layer at a time."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import interfaces
from .config import Geometry
from .interfaces import ErrorCode, Opcode
from .predict.ports import weight_word
from .router.ahead import route_order
from .sequence.command import Command
from .sequence.layer import add_layer, begin_layer
from .sequence.loading import (
    add_loading,
    begin_router,
    begin_table,
    begin_weights,
    weight_rows,
)
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
        c = Command(m, self, self.geometry)
        bad_shape = Signal()
        m.d.sync += bad_shape.eq(illegal_shape(self.geometry, self.shape))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.cmd.ready.eq(1)
                with m.If(self.cmd.valid):
                    self._decode(m, c, bad_shape)
            with m.State("TOKEN"):
                m.d.sync += c.telling.eq(c.telling & ~Cat(self.token.ready, self.round.ready))
                with m.If(c.telling == 0):
                    m.next = "IDLE"
            add_layer(c, self)
            add_loading(c, self)
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
                m.d.sync += c.bad.eq(0)
                m.next = "IDLE"
        return m

    def _decode(self, m, c, bad_shape):
        """The first word of a command."""
        header = c.header
        m.d.sync += [c.words.eq(0), c.shared.eq(0), c.observed.eq(0),
                     c.bad_expert.eq(0), c.layer.eq(header.a), c.load_expert.eq(header.b),
                     c.identity.eq(Cat(header.b, header.c)),
                     c.on_chip.eq(0), c.flow.eq(0), c.to_x.eq(0), c.to_router.eq(0)]
        with m.Switch(header.opcode):
            with m.Case(Opcode.TOKEN):
                m.d.sync += [c.first_token.eq(header.flag), c.telling.eq(0b11)]
                m.d.comb += self.token_seen.eq(1)
                m.next = "TOKEN"
            with m.Case(Opcode.LAYER, *[Opcode.DENSE] * bool(c.dense_blobs)):
                begin_layer(c, self, bad_shape)
            with m.Case(Opcode.LOAD_ROUTER):
                begin_router(c, self)
            with m.Case(Opcode.LOAD_TABLE):
                begin_table(c, self)
            with m.Case(Opcode.FLUSH):
                m.next = "FLUSH"
            if weight_rows(c):
                with m.Case(Opcode.LOAD_WEIGHTS):
                    begin_weights(c)
            with m.Default():
                c.refuse(ErrorCode.BAD_OPCODE)
                m.next = "REPORT"
