"""States of the sequencer that conduct a LAYER or DENSE command."""

from amaranth.hdl import Cat
from amaranth.lib import wiring

from ..interfaces import ErrorCode, Opcode
from .command import Command

__all__ = ["add_layer", "begin_layer"]


def begin_layer(c: Command, ports: wiring.Component, bad_shape) -> None:
    """The first word of the command, on ``cmd``; whether it can run."""
    m, g, header, shape = c.m, c.geometry, c.header, ports.shape
    is_dense = header.opcode == Opcode.DENSE
    m.d.sync += [c.on_chip.eq(header.flag), c.flow.eq(header.flag), c.act_left.eq(shape.in_words)]
    if c.dense_blobs:
        with m.If(is_dense):
            m.d.sync += [c.on_chip.eq(0), c.flow.eq(1)]
        m.d.sync += [
            c.dense.eq(is_dense), c.matrix.eq(~header.flag), c.word.eq(0),
            c.first_blob.eq(c.model.expert_ids + header.c), c.blobs.eq(c.announced_blobs)]
    if c.many:
        m.d.comb += c.mapping.clear.eq(1)
        m.d.sync += [
            c.tokens.eq(header.b), c.token.eq(0), c.phase.eq(header.phase),
            c.act_tokens.eq(header.b - 1), c.act_words.eq(shape.in_words)]
        with m.If(bad_shape):
            m.d.sync += c.act_words.eq(g.in_words)
    with m.If(bad_shape):
        m.d.sync += c.act_left.eq(g.in_words)
        c.refuse(ErrorCode.BAD_SHAPE)
    with m.Elif(header.a >= shape.layers):
        c.refuse(ErrorCode.BAD_LAYER)
    with m.Elif((header.b == 0) | (header.b > c.config.max_tokens) if c.many else header.b != 1):
        c.refuse(ErrorCode.BAD_TOKENS)
    with m.Elif(header.flag & ~c.held & ~is_dense if c.dense_blobs else header.flag & ~c.held):
        c.refuse(ErrorCode.NO_ROUTER_WEIGHTS)
    if c.dense_blobs:
        with m.Elif(is_dense & (
                (c.announced_blobs == 0) | (c.announced_blobs > c.config.most_experts)
                | (~header.flag & (c.announced_blobs > shape.matrix_parts))
                | (c.announced_blobs + header.c > c.dense_blobs))):
            c.refuse(ErrorCode.BAD_DENSE, header.c)
    with m.Else():
        m.d.sync += c.to_x.eq(1)
    if c.many:
        with m.If(header.b == 0):
            m.d.sync += c.act_left.eq(0)
    m.next = "RECEIVE"


def add_layer(c: Command, ports: wiring.Component) -> None:
    """From RECEIVE back to IDLE, or to REPORT."""
    m = c.m
    with m.State("RECEIVE"):
        m.d.comb += [ports.in_layer.eq(1), ports.receiving.eq(1)]
        if c.geometry.looks_ahead:
            m.d.sync += c.ahead.eq(
                c.on_chip & ports.lookahead & (c.layer + 1 < ports.shape.layers)
                & c.after.valid & (c.after.layer == c.layer + 1))
        known = c.on_chip | ((c.token == c.tokens) if c.many else (c.words == c.k))
        with m.If(known | c.dense if c.dense_blobs else known):
            m.d.sync += c.flow.eq(1)
            with m.If(c.bad):
                m.d.sync += c.to_x.eq(0)
                with m.If(c.flow & (c.act_left == 0)):
                    m.d.sync += c.words.eq(0)
                    if c.many:
                        m.d.sync += c.token.eq(0)
                    m.d.sync += c.refusing.eq(1)
                    m.next = "REFUSED"
            with m.Elif(~c.on_chip):
                m.next = "BEGIN"
            with m.Elif(1 if c.many else c.act_left == 0):
                m.next = "ROUTE"
        with m.Else():
            m.d.comb += ports.cmd.ready.eq(1)
            with m.If(ports.cmd.valid):
                _receive_expert(c, ports)

    with m.State("ROUTE"):
        m.d.comb += [ports.in_layer.eq(1), ports.routing.eq(1), ports.route.valid.eq(1)]
        with m.If(ports.route.ready):
            m.next = "GATES"
    with m.State("GATES"):
        m.d.comb += [ports.in_layer.eq(1), ports.routing.eq(1), ports.gates.ready.eq(1)]
        with m.If(ports.gates.valid):
            for i in range(c.k):
                with m.If(c.words == i):
                    m.d.sync += [c.experts[i].eq(ports.gates.payload.expert),
                                 c.gates[i].eq(ports.gates.payload.gate)]
            m.d.sync += c.words.eq(c.words + 1)
            if c.many:
                m.d.comb += [c.mapping.routed.valid.eq(1),
                             c.mapping.routed.expert.eq(ports.gates.payload.expert),
                             c.mapping.routed.gate.eq(ports.gates.payload.gate)]
            with m.If(ports.gates.payload.last):
                m.next = "BEGIN"
                if c.many:
                    m.d.sync += [c.words.eq(0), c.token.eq(c.token + 1)]
                    with m.If(~c.last_token):
                        m.next = "ROUTE"

    with m.State("BEGIN"):
        m.d.comb += [ports.in_layer.eq(1), ports.running.eq(1), ports.start.eq(1)]
        m.d.sync += [c.dispatching.eq(1), c.answering.eq(1),
                     c.observing.eq(~c.dense if c.dense_blobs else 1)]
        m.next = "RUN"
    with m.State("RUN"):
        m.d.comb += [ports.in_layer.eq(1), ports.running.eq(1)]
        with m.If(c.over):
            m.d.sync += c.answering.eq(0)
            m.next = "FINISH"
    with m.State("FINISH"):  # the prediction unit may still be learning
        with m.If(~c.observing):
            m.next = "IDLE"

    with m.State("REFUSED"):  # a packet of zeros, as long as a good one
        m.d.comb += [ports.in_layer.eq(1), ports.running.eq(1)]
        with m.If(ports.result.ready):
            m.d.sync += c.words.eq(c.words + 1)
            if c.many:
                with m.If(c.ends):
                    m.d.sync += [c.words.eq(0), c.token.eq(c.token + 1)]
            with m.If(ports.result.payload.last):
                m.d.sync += c.refusing.eq(0)
                m.next = "REPORT"


def _receive_expert(c: Command, ports: wiring.Component) -> None:
    """A word of the host's routing."""
    m = c.m
    expert, gate = ports.cmd.payload[:16], ports.cmd.payload[16:32]
    m.d.sync += c.words.eq(c.words + 1)
    for i in range(c.k):
        with m.If(c.words == i):
            m.d.sync += [c.experts[i].eq(expert), c.gates[i].eq(gate)]
    if c.many:
        repeated = c.mapping.repeated
        m.d.comb += [
            c.mapping.routed.valid.eq(expert < ports.shape.experts),
            c.mapping.routed.expert.eq(expert), c.mapping.routed.gate.eq(gate)]
        with m.If(c.words == c.k - 1):
            m.d.sync += [c.words.eq(0), c.token.eq(c.token + 1)]
    else:
        repeated = Cat(*((c.words > i) & (c.experts[i] == expert) for i in range(c.k))).any()
    with m.If((expert >= ports.shape.experts) | repeated):
        c.refuse(ErrorCode.BAD_EXPERT, expert)
