"""Rows by token identity, on chip."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out

from .linear_shape import LinearShape

__all__ = ["LexicalRows", "LexicalSignature"]


class LexicalSignature(wiring.Signature):
    """The rows of the present token, one per table and layer, seen from their store.

    A store on chip always has them; one that streams a token's rows from expert memory holds
    ``ready`` back until rows are there, layer 0 first, and writes back what has changed.

    begin, identity, last: pulse by table, the present token from the next cycle on, and what
        chooses its rows there; of the other tables it has none.
    ready, ready_layer: the rows of this layer can be read; not in the cycle of ``begin``.
    read, read_table, read_layer: ``row`` answers one cycle later, for that cycle only.
    write, write_table, write_layer, write_row: row to keep; not the one that is read in that cycle.
    """

    def __init__(self, shape: LinearShape):
        layer_bits = shape.geometry.layer_bits
        super().__init__({
            "begin": In(max(1, len(shape.tables))), "identity": In(shape.identity_bits),
            "last": In(shape.identity_bits),
            "ready": Out(1), "ready_layer": In(layer_bits),
            "read": In(1), "read_table": In(shape.table_bits), "read_layer": In(layer_bits),
            "row": Out(shape.row),
            "write": In(1), "write_table": In(shape.table_bits), "write_layer": In(layer_bits),
            "write_row": In(shape.row)})


class LexicalRows(wiring.Component):
    """All rows of all tables in one memory: table by table, identity by identity.

    Reset: no token. The memory is not reset; rows are 0 where the technology initialises it.

    Parameters
    ----------
    shape: LinearShape, with rows by identity.

    Members
    -------
    See :class:`LexicalSignature`, and: load, load_address, load_row: pulse, a row from outside, by
    its number * layers + layer; not together with ``write``. ``data`` is the memory's contents, for
    simulation.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        self.data = MemoryData(shape=shape.row.size, depth=shape.table_rows * shape.layers, init=[])
        super().__init__({
            **LexicalSignature(shape).members, "load": In(1),
            "load_address": In(range(max(2, self.data.depth))), "load_row": In(shape.row)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(self.data)
        read, write = memory.read_port(), memory.write_port()
        bases = []
        for table, row in enumerate(self.shape.chosen_rows(self.identity, self.last)):
            base = Signal.like(read.addr, name=f"base{table}")
            with m.If(self.begin[table]):
                m.d.sync += base.eq(row * self.shape.layers)
            bases.append(base)
        m.d.comb += [
            self.ready.eq(1), read.en.eq(self.read),
            read.addr.eq(Array(bases)[self.read_table] + self.read_layer),
            self.row.eq(read.data), write.en.eq(self.write | self.load),
            # Not chosen by ``load``, see :class:`WeightRows`.
            write.addr.eq(Mux(self.write, Array(bases)[self.write_table] + self.write_layer,
                              self.load_address)),
            write.data.eq(Mux(self.write, self.write_row, self.load_row))]
        return m
