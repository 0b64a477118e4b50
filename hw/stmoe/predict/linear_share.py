"""Rows by layer and rows by token identity on one port of expert memory."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..bus.axi_share import AxiShare
from ..bus.axi_write_share import AxiWriteShare
from .linear_shape import LinearShape
from .linear_stream import LexicalPort

__all__ = ["PortShare"]


class PortShare(wiring.Component):
    """One ``LexicalPort`` for two stores. ``second``, of which little moves, goes before ``first``.

    Combinational: no latency. Of two errors in one cycle, the one of ``second`` is reported.
    Reset: nothing offered.

    Parameters
    ----------
    shape: LinearShape. boundary: see :class:`AxiShare`.

    Members
    -------
    first, second: the stores' ports. port: of both.
    """

    def __init__(self, shape: LinearShape, boundary: int):
        self.shape, self.boundary = shape, boundary
        port = LexicalPort(shape.geometry)
        super().__init__({"first": In(port), "second": In(port), "port": Out(port)})

    def elaborate(self, platform):
        m = Module()
        first, second, port = self.first, self.second, self.port
        m.submodules.reads = reads = AxiShare(self.shape.geometry, self.boundary)
        m.submodules.writes = writes = AxiWriteShare(self.shape.geometry)
        for share, name in ((reads, "read"), (writes, "write")):
            connect(m, flipped(getattr(first, name)), share.first)
            connect(m, flipped(getattr(second, name)), share.second)
            connect(m, share.axi, flipped(getattr(port, name)))
        for store in (first, second):
            m.d.comb += [store.base.eq(port.base), store.flush.eq(port.flush)]
        m.d.comb += [getattr(port, name).eq(getattr(first, name) | getattr(second, name))
                     for name in ("busy", "beats_read", "beats_written")]
        m.d.comb += port.error.eq(Mux(second.error.valid, second.error, first.error))
        return m
