"""States of the sequencer that load gate weights, rows of the table and rows of weights."""

from amaranth.hdl import Cat
from amaranth.lib import wiring

from ..interfaces import ErrorCode
from .command import Command

__all__ = ["add_loading", "begin_router", "begin_table", "begin_weights", "weight_rows"]


def weight_rows(c: Command) -> int:
    """Rows of weights that can be loaded; 0: the command is not known."""
    return c.config.linear.chip_rows(c.model) if "linear" in c.config.predictor else 0


def begin_router(c: Command, ports: wiring.Component) -> None:
    """The first word of LOAD_ROUTER."""
    m = c.m
    m.d.sync += c.act_left.eq(c.model.experts * c.geometry.in_words)
    if c.many:
        m.d.sync += c.act_tokens.eq(0)
    m.next = "LOAD-ROUTER-START"
    if c.config.router_layers:
        with m.If(c.header.a < ports.shape.layers):
            m.d.sync += c.to_router.eq(1)
        with m.Else():
            c.refuse(ErrorCode.BAD_LAYER)
    else:
        c.refuse(ErrorCode.NO_ROUTER_WEIGHTS)


def begin_table(c: Command, ports: wiring.Component) -> None:
    """The first word of LOAD_TABLE."""
    m = c.m
    with m.If(c.header.a + 1 >= ports.shape.layers):
        c.refuse(ErrorCode.BAD_LAYER)
    with m.Elif(c.header.b >= ports.shape.experts):
        c.refuse(ErrorCode.BAD_EXPERT, c.header.b)
    m.next = "LOAD-TABLE"


def begin_weights(c: Command) -> None:
    """The first word of LOAD_WEIGHTS."""
    m = c.m
    with m.If(Cat(c.header.b, c.header.c) >= weight_rows(c)):
        c.refuse(ErrorCode.BAD_ROW)
    m.next = "LOAD-WEIGHTS"


def add_loading(c: Command, ports: wiring.Component) -> None:
    """From LOAD-... back to IDLE, or to REPORT."""
    m = c.m
    with m.State("LOAD-ROUTER-START"), m.If(~c.looking):
        m.d.comb += [ports.router_load_start.eq(~c.bad), c.block.eq(c.layer % c.blocks)]
        m.d.sync += c.flow.eq(1)  # weights follow the pulse
        with m.If(~c.bad):
            m.d.sync += [c.loaded[c.block].valid.eq(1), c.loaded[c.block].layer.eq(c.layer)]
        m.next = "LOAD-ROUTER"
    with m.State("LOAD-ROUTER"):
        with m.If(c.act_left == 0):
            m.next = "IDLE"
            with m.If(c.bad):
                m.next = "REPORT"
    with m.State("LOAD-TABLE"):
        m.d.comb += ports.cmd.ready.eq(c.words != c.row_words)
        with m.If(c.words == c.row_words):
            m.d.comb += ports.table_load.valid.eq(~c.bad)
            with m.If(c.bad):
                m.next = "REPORT"
            with m.Elif(ports.table_load.ready):
                m.next = "IDLE"
        with m.Elif(ports.cmd.valid):
            m.d.sync += [c.words.eq(c.words + 1), c.row.eq(Cat(c.row, ports.cmd.payload)[64:])]
    if weight_rows(c):
        with m.State("LOAD-WEIGHTS"):
            last = c.words == c.config.linear.row_words(c.model) - 1
            m.d.comb += [
                ports.weights.payload.row.eq(c.identity), ports.weights.payload.last.eq(last),
                ports.weights.payload.data.eq(ports.cmd.payload),
                ports.weights.valid.eq(ports.cmd.valid & ~c.bad),
                ports.cmd.ready.eq(ports.weights.ready | c.bad)]
            with m.If(ports.cmd.valid & ports.cmd.ready):
                m.d.sync += c.words.eq(c.words + 1)
                with m.If(last):
                    m.next = "IDLE"
                    with m.If(c.bad):
                        m.next = "REPORT"
