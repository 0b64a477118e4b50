"""Rows by token identity, in expert memory, of which the present token's are on chip."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import ConfigError, Geometry
from ..config.geometry import ROW_READS
from ..config.lexical_layout import LexicalLayout
from ..interfaces import AxiReadSignature, AxiWriteSignature
from .linear_fetch import RowFetch
from .linear_lexical import LexicalSignature
from .linear_shape import LinearShape
from .linear_writeback import RowWriteBack

__all__ = ["READS", "LexicalPort", "LexicalStream"]

READS = ROW_READS


class LexicalPort(wiring.Signature):
    """What a store in expert memory, of whatever rows, has to do with the rest of the accelerator.

    read, write: AXI4 channels, manager side.
    base: byte address of the rows, legal as of ``LexicalLayout.check_base`` and, with weights of
        layers, a multiple of ``WeightLayout.burst_stride``; may change while neither ``busy`` nor
        rows are held, so after a flush.
    flush: pulse, not with a token's beginning: writes back what was learnt and lets go of all rows,
        done once no longer ``busy``, that is from the next cycle on.
    busy: rows are on their way, either way.
    error: a bus error, reported for one cycle: a row of ``layer`` could not be read or written.
    beats_read, beats_written: increments of this cycle for the counters.
    """

    def __init__(self, g: Geometry):
        super().__init__({
            "read": Out(AxiReadSignature(g)), "write": Out(AxiWriteSignature(g)),
            "base": In(g.config.axi_addr_bits), "flush": In(1), "busy": Out(1),
            "error": Out(data.StructLayout({"valid": 1, "layer": unsigned(g.layer_bits)})),
            "beats_read": Out(1), "beats_written": Out(1)})


class LexicalStream(wiring.Component):
    """Two banks on chip per table, each of one row per layer: the present token's, and the one's
    before, all in one memory.

    A token of another row than the present in some table: its banks there change places once
    nothing of any is on its way; its rows are then read, layer 0 first, and behind them the changed
    rows of the token before are written back. In a table where it has the same row or none, nothing
    is moved. A row is hence read only
    after its own write-back was acknowledged, and a token that comes early waits for the write-back
    of the last but one. What was not asked for of a token that never came to use is left out.

    Latency from ``begin``: AR valid three cycles later if nothing is on its way; a row is ``ready``
    in the cycle after its last beat. Throughput: a beat per cycle; R waits in cycles of ``write``.
    Errors: a row that could not be read is 0 until another token's are read, and what is learnt of
    it is lost, as is what could not be written; ``port.error`` tells. Before the first ``begin``
    and after a flush, rows are 0 and writes without effect.
    Reset: no token. Memory has to hold rows, zeros for a cold start, before the first ``begin``.

    Parameters
    ----------
    shape: LinearShape, with rows by identity.
    first_id, reads: AXI read ids ``first_id`` .. ``first_id + reads - 1`` are its own, as many rows
        are asked for at a time; writes have id 0.

    Members
    -------
    See :class:`LexicalSignature`. port: see :class:`LexicalPort`.
    ``banks`` is the banks' contents, for simulation.
    """

    def __init__(self, shape: LinearShape, *, first_id: int = 0, reads: int = READS):
        self.shape = shape
        self.first_id, self.reads = first_id, reads
        g = shape.geometry
        if first_id + reads > 1 << g.id_bits:
            raise ConfigError("lexical ids", first_id + reads,
                              f"at most {1 << g.id_bits} with AXI ids of {g.id_bits} bits")
        self.layout = LexicalLayout(g, shape.options)
        beats = data.ArrayLayout(unsigned(g.config.axi_data_bits), self.layout.row_beats)
        self.banks = MemoryData(shape=beats, depth=2 * len(shape.tables) * shape.layers, init=[])
        super().__init__({**LexicalSignature(shape).members, "port": Out(LexicalPort(g))})

    def elaborate(self, platform):
        m = Module()
        shape, port = self.shape, self.port
        m.submodules.fetch = fetch = RowFetch(
            shape, first_id=self.first_id, reads=self.reads)
        m.submodules.write_back = writer = RowWriteBack(shape)
        connect(m, fetch.axi, flipped(port.read))
        connect(m, writer.axi, flipped(port.write))

        # By table: which row has the present bank, and which wants it.
        tables, layers = len(shape.tables), shape.layers

        def by_table(width, name):
            return [Signal(width, name=f"{name}_{shape.tables[t]}") for t in range(tables)]
        number = range(max(2, shape.table_rows))
        row, due_row, old_row = (by_table(number, name) for name in ("row", "row_due", "row_old"))
        landed, failed, changed, old_changed, now_changed = (by_table(layers, name) for name in (
            "landed", "failed", "changed", "old_changed", "now_changed"))
        present, held, used, waiting, swap = (Signal(tables, name=name) for name in (
            "present", "held", "used", "waiting", "swap"))
        flushing, still, keep, there = Signal(), Signal(), Signal(), Signal()
        begin = Signal(tables)  # a cycle later, when what is wanted is known
        m.d.sync += begin.eq(self.begin)
        m.d.comb += [
            still.eq(~begin.any() & ~fetch.in_flight & ~writer.busy
                     & ~Cat(old_changed).any()),
            swap.eq(Mux(still, Mux(flushing, ~0, waiting), 0)),
            fetch.start.eq(Mux(flushing, 0, swap)), fetch.cancel.eq(still & flushing),
            fetch.stop.eq(waiting.any() | flushing), fetch.stall.eq(self.write),
            writer.go.eq((~fetch.asking | waiting.any() | flushing) & ~self.read),
            keep.eq(self.write & held.bit_select(self.write_table, 1)
                    & ~Array(failed)[self.write_table].bit_select(self.write_layer, 1)),
            there.eq(Cat(~held[t] | ~used[t] | landed[t].bit_select(self.ready_layer, 1)
                         for t in range(tables)).all()),
            self.ready.eq(~waiting.any() & ~flushing & there & ~begin.any())]
        with m.If(begin.any()):
            m.d.sync += used.eq(begin)
        with m.If(still):
            m.d.sync += flushing.eq(0)
        with m.If(port.flush):
            m.d.sync += flushing.eq(1)
        stride_bits = self.layout.token_stride.bit_length() - 1

        def home(of):
            return port.base + Cat(Const(0, stride_bits), of)
        for t, wanted in enumerate(shape.chosen_rows(self.identity, self.last)):
            m.d.comb += [
                now_changed[t].eq(changed[t] | Mux(keep & (self.write_table == t),
                                                   1 << self.write_layer, 0)[:layers]),
                writer.pending[t].eq(old_changed[t]), fetch.address[t].eq(home(row[t])),
                writer.address[t].eq(home(old_row[t]))]
            m.d.sync += changed[t].eq(now_changed[t])
            with m.If(fetch.landed.valid & (fetch.landed.table == t)):
                m.d.sync += [
                    landed[t].bit_select(fetch.landed.layer, 1).eq(1),
                    failed[t].bit_select(fetch.landed.layer, 1).eq(fetch.landed.failed)]
            with m.If(writer.read & (writer.read_table == t)):
                m.d.sync += old_changed[t].bit_select(writer.read_layer, 1).eq(0)
            with m.If(self.begin[t]):
                m.d.sync += due_row[t].eq(wanted)
            with m.If(begin[t]):
                m.d.sync += waiting[t].eq(
                    ~held[t] | (row[t] != due_row[t]) | flushing | port.flush)
            with m.If(swap[t]):
                m.d.sync += [
                    present[t].eq(~present[t]), old_row[t].eq(row[t]), changed[t].eq(0),
                    old_changed[t].eq(now_changed[t]), landed[t].eq(0), failed[t].eq(0),
                    held[t].eq(~flushing)]
                with m.If(~flushing):
                    m.d.sync += [row[t].eq(due_row[t]), waiting[t].eq(0)]

        # The banks: the predictor's accesses go first.
        m.submodules.banks = memory = Memory(self.banks)
        read, write = memory.read_port(), memory.write_port(granularity=1)

        def place(table, layer, old=0):
            half = present.bit_select(table, 1) ^ old
            return Array(range(0, tables * layers, layers))[table] + layer + Mux(
                half, tables * layers, 0)
        m.d.comb += [
            read.en.eq(self.read | writer.read),
            read.addr.eq(Mux(self.read, place(self.read_table, self.read_layer),
                             place(writer.read_table, writer.read_layer, 1)))]
        with m.If(keep):
            m.d.comb += [write.en.eq(~0), write.addr.eq(place(self.write_table, self.write_layer)),
                         Cat(*write.data).eq(self.write_row)]
        with m.Else():
            m.d.comb += [
                write.en.eq(Mux(fetch.beat.valid, 1 << fetch.beat.index, 0)),
                write.addr.eq(place(fetch.beat.table, fetch.beat.layer)),
                *(write.data[i].eq(fetch.beat.data) for i in range(self.layout.row_beats))]
        known = Signal()  # whether the row that is read has contents
        m.d.sync += known.eq(held.bit_select(self.read_table, 1) & ~Array(failed)[
            self.read_table].bit_select(self.read_layer, 1))
        m.d.comb += [self.row.eq(Mux(known, Cat(*read.data)[:shape.row.size], 0)),
                     writer.row.eq(read.data)]

        # Reports; a response to a write waits for the report of a failed read.
        refused = Signal()
        m.d.comb += [
            refused.eq(fetch.landed.valid & fetch.landed.failed),
            writer.stall.eq(refused),
            port.busy.eq((begin | waiting).any() | flushing | fetch.asking | fetch.in_flight
                         | writer.busy | Cat(old_changed).any()),
            port.beats_read.eq(fetch.beat.valid),
            port.beats_written.eq(port.write.w.valid & port.write.w.ready)]
        with m.If(refused):
            m.d.comb += [port.error.valid.eq(1), port.error.layer.eq(fetch.landed.layer)]
        with m.Else():
            m.d.comb += [port.error.valid.eq(writer.failed.valid),
                         port.error.layer.eq(writer.failed.layer)]
        return m
