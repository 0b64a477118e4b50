"""The weight rows: where they are read, moved and written back."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out

from .linear_lexical import LexicalRows
from .linear_shape import LinearShape
from .linear_share import PortShare
from .linear_stream import LexicalPort
from .linear_window import WeightWindow, WindowSignature

__all__ = ["WeightRows"]


class WeightRows(wiring.Component):
    """Reads a row a cycle; with ``learn``, adds every expert's step and writes the row back.

    Latency: ``row`` two cycles after ``valid``, written back at the end of the third, so that a
    read in the fourth sees it. While learning, a row must not be asked for again within three
    cycles. Weights saturate at the format's limit. No back-pressure. Reset: pipeline empty. The
    memory is not reset; rows are 0 where the technology initialises it.

    Parameters
    ----------
    shape: LinearShape
    lexical_store: component with ``LexicalSignature``; None: on chip.
    window: what has the rows that are not by identity, of those layers that are needed; None: all
        on chip. Should either have a ``port``, so has this component.

    Members
    -------
    begin, identity, last: pulse by table, a token with rows there, and what chooses them, its
        identity and the one before. Those of ``ready_layer`` are there once ``ready``, looked at
        from the next cycle on.
    valid, address, lexical, table, layer: row to read, by ``address``, with a window one of
        ``layer``, or that of ``layer`` from ``table``, the token's; ``layer`` is stable while
        ``active`` and from two cycles before.
    stage, mark: of the row; ``mark``, without a row, goes along with the rows.
    learn: whether rows are moved; stable while ``active``, like
    steps, lexical_steps, previous_steps: by how much, by stage, of lexical and pair rows, and of
        previous ones.
    load, load_address, load_row: pulse, a row from outside: by address, if all are on chip, or,
        from ``loaded_rows`` on, of those by identity on chip. Not while ``active``.
    row_valid, row: what was read. marked, row_stage: ``mark`` and ``stage`` beside it.
    written: a row is written back in this cycle.
    active: a row is under way.
    blocks: see :class:`WindowSignature`; without a window, everything is always there.
    data, lexical_data: the memories' contents, for simulation; None where rows are streamed.
        ``data`` holds layer by layer the bias, then by feature and expert, then by leader and
        expert.
    """

    def __init__(self, shape: LinearShape, lexical_store: wiring.Component | None = None,
                 window: WeightWindow | None = None):
        self.shape, self._window = shape, window
        self.data = None if window else MemoryData(
            shape=shape.row.size, depth=shape.depth, init=[])
        self._store = lexical_store or (LexicalRows(shape) if shape.tables else None)
        self.lexical_data = getattr(self._store, "data", None)
        self._streams = [store for store in (window, self._store)
                         if store and "port" in store.signature.members]
        super().__init__({
            **({"port": Out(LexicalPort(shape.geometry))} if self._streams else {}),
            "blocks": Out(WindowSignature(shape)),
            "begin": In(max(1, len(shape.tables))), "identity": In(shape.identity_bits),
            "last": In(shape.identity_bits),
            "ready": Out(1), "ready_layer": In(shape.geometry.layer_bits),
            "valid": In(1), "address": In(shape.address_bits), "lexical": In(1),
            "table": In(shape.table_bits), "layer": In(shape.geometry.layer_bits),
            "stage": In(shape.stage_bits), "mark": In(1), "learn": In(1),
            "steps": In(data.ArrayLayout(shape.steps(shape.shift), shape.stages)),
            "lexical_steps": In(shape.steps(shape.lexical_shift)),
            "previous_steps": In(shape.steps(shape.previous_shift)),
            "load": In(1), "load_address": In(shape.load_bits), "load_row": In(shape.row),
            "row_valid": Out(1), "row": Out(shape.row), "marked": Out(1),
            "row_stage": Out(shape.stage_bits), "written": Out(1), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        shape, store = self.shape, self._store
        window = self._window
        valid, lexical = Signal(2), Signal(3)  # by stage, the youngest lowest
        address = [Signal(shape.address_bits, name=f"address{stage}") for stage in range(3)]
        table = [Signal(shape.table_bits, name=f"table{stage}") for stage in range(3)]
        of, mark = [Signal(shape.stage_bits, name=f"of{stage}") for stage in range(2)], Signal(2)
        m.d.comb += [self.row_valid.eq(valid[1]),
                     self.marked.eq(mark[1]), self.row_stage.eq(of[1]),
                     self.active.eq(self.valid | self.mark | valid.any() | mark.any()
                                    | self.written)]
        m.d.sync += [
            valid.eq(Cat(self.valid, valid)), lexical.eq(Cat(self.lexical, lexical)),
            Cat(*address).eq(Cat(self.address, *address)), mark.eq(Cat(self.mark, mark)),
            Cat(*table).eq(Cat(self.table, *table)), Cat(*of).eq(Cat(self.stage, *of)),
            self.written.eq(valid[1] & self.learn)]

        new = Signal(shape.row)
        previous = shape.tables.index("previous") if "previous" in shape.tables else None
        for e in range(shape.experts):
            step = self.steps[0][e]
            for stage in range(1, shape.stages):
                step = Mux(of[1] == stage, self.steps[stage][e], step)
            if store:
                hashed = self.lexical_steps[e]
                if previous is not None:
                    hashed = Mux(table[1] == previous, self.previous_steps[e], hashed)
                step = Mux(lexical[1], hashed, step)
            total = self.row[e] + step
            moved = Signal(signed(len(total)), name=f"moved{e}")
            m.d.sync += moved.eq(total)
            m.d.comb += new[e].eq(Mux(moved > shape.row_limit, shape.row_limit, Mux(
                moved < -shape.row_limit, -shape.row_limit, moved)))
        m.d.comb += self.ready.eq(1)
        if window:
            m.submodules.window = window
            for name, member in self.blocks.signature.members.items():
                inner, outer = getattr(window, name), getattr(self.blocks, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
            m.d.sync += self.row.eq(window.row)
            m.d.comb += [
                window.read_layer.eq(self.layer),
                window.read.eq(self.valid & ~self.lexical), window.address.eq(self.address),
                window.write.eq(self.written & ~lexical[2]), window.write_address.eq(address[2]),
                window.write_row.eq(new)]
        else:
            m.submodules.memory = memory = Memory(self.data)
            read, write = memory.read_port(), memory.write_port()
            m.d.sync += self.row.eq(read.data)
            m.d.comb += [
                read.en.eq(self.valid & ~self.lexical), read.addr.eq(self.address),
                # Chosen by a register: the load comes late, and would have all bits to reach.
                write.en.eq(Mux(self.written, ~lexical[2],
                                self.load & (self.load_address < shape.depth))),
                write.addr.eq(Mux(self.written, address[2], self.load_address)),
                write.data.eq(Mux(self.written, new, self.load_row)),
                *(getattr(self.blocks, name).eq(1) for name in ("here", "held", "settled"))]
        if store:
            m.submodules.lexical = store
            with m.If(lexical[0]):
                m.d.sync += self.row.eq(store.row)
            m.d.comb += [
                store.begin.eq(self.begin), store.identity.eq(self.identity),
                store.last.eq(self.last), store.read_table.eq(self.table),
                store.write_table.eq(table[2]), self.ready.eq(store.ready),
                store.ready_layer.eq(self.ready_layer),
                store.read.eq(self.valid & self.lexical), store.read_layer.eq(self.layer),
                store.write.eq(self.written & lexical[2]), store.write_layer.eq(self.layer),
                store.write_row.eq(new)]
            if isinstance(store, LexicalRows):
                m.d.comb += [store.load.eq(self.load & (self.load_address >= shape.loaded_rows)),
                             store.load_address.eq(self.load_address - shape.loaded_rows),
                             store.load_row.eq(self.load_row)]
        if window and len(self._streams) > 1:
            m.submodules.share = share = PortShare(shape, window.first_id + window.reads)
            for stream, port in zip(self._streams, (share.first, share.second), strict=True):
                wiring.connect(m, stream.port, port)
            wiring.connect(m, share.port, wiring.flipped(self.port))
        elif self._streams:
            wiring.connect(m, self._streams[0].port, wiring.flipped(self.port))
        return m
