"""Rows by token identity, on chip."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out

from .linear_shape import LinearShape

__all__ = ["LexicalRows", "LexicalSignature"]


class LexicalSignature(wiring.Signature):
    """The rows of the present token, one per layer, seen from their store.

    A store on chip always has them; one that streams a token's rows from expert memory holds
    ``ready`` back until a row is there, layer 0 first, and writes back what has changed.

    begin, identity: pulse, the present token from the next cycle on.
    ready, ready_layer: the row of this layer can be read; not in the cycle of ``begin``.
    read, read_layer: ``row`` answers one cycle later, for that cycle only.
    write, write_layer, write_row: row to keep; not the one that is read in that cycle.
    """

    def __init__(self, shape: LinearShape):
        layer_bits = shape.geometry.layer_bits
        super().__init__({
            "begin": In(1), "identity": In(shape.lexical_bits),
            "ready": Out(1), "ready_layer": In(layer_bits),
            "read": In(1), "read_layer": In(layer_bits), "row": Out(shape.row),
            "write": In(1), "write_layer": In(layer_bits), "write_row": In(shape.row)})


class LexicalRows(wiring.Component):
    """All rows of all identities in one memory, identity by identity.

    Reset: identity 0. The memory is not reset; rows are 0 where the technology initialises it.

    Parameters
    ----------
    shape: LinearShape, with lexical rows.

    Members
    -------
    See :class:`LexicalSignature`, and: load, load_address, load_row: pulse, a row from outside, by
    identity * layers + layer; not together with ``write``. ``data`` is the memory's contents, for
    simulation.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        self.data = MemoryData(shape=shape.row.size, depth=shape.options.lexical * shape.layers,
                               init=[])
        super().__init__({
            **LexicalSignature(shape).members, "load": In(1),
            "load_address": In(range(max(2, self.data.depth))), "load_row": In(shape.row)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(self.data)
        read, write = memory.read_port(), memory.write_port()
        base = Signal.like(read.addr)
        row = self.identity & self.shape.options.lexical - 1
        with m.If(self.begin):
            m.d.sync += base.eq(row * self.shape.layers)
        m.d.comb += [
            self.ready.eq(1), read.en.eq(self.read), read.addr.eq(base + self.read_layer),
            self.row.eq(read.data), write.en.eq(self.write),
            write.addr.eq(base + self.write_layer), write.data.eq(self.write_row)]
        with m.If(self.load):
            m.d.comb += [write.en.eq(1), write.addr.eq(self.load_address),
                         write.data.eq(self.load_row)]
        return m
