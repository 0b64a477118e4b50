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
    """What a store in expert memory has to do with the rest of the accelerator.

    read, write: AXI4 channels, manager side.
    base: byte address of the rows, legal as of ``LexicalLayout.check_base``; may change while
        neither ``busy`` nor a token's rows are held, so after a flush.
    flush: pulse, not with a token's beginning: writes back what was learnt and lets go of the
        token's rows, done once no longer ``busy``, that is from the next cycle on.
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
    """Two banks on chip of one row per layer each: the present token's, and the one's before.

    A token of another row than the present: the banks change places once nothing of either is on
    its way; its rows are then read, layer 0 first, and behind them the changed rows of the token
    before are written back. Of a token of the same row nothing is moved. A row is hence read only
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
    shape: LinearShape, with lexical rows.
    first_id, reads: AXI read ids ``first_id`` .. ``first_id + reads - 1`` are its own, as many rows
        are asked for at a time; writes have id 0.

    Members
    -------
    See :class:`LexicalSignature`. port: see :class:`LexicalPort`.
    ``banks`` are the banks' contents, for simulation.
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
        self.banks = [MemoryData(shape=beats, depth=max(2, shape.layers), init=[])
                      for _ in range(2)]  # a single address has no bits
        super().__init__({**LexicalSignature(shape).members, "port": Out(LexicalPort(g))})

    def elaborate(self, platform):
        m = Module()
        shape, port = self.shape, self.port
        m.submodules.fetch = fetch = RowFetch(
            shape, first_id=self.first_id, reads=self.reads)
        m.submodules.write_back = writer = RowWriteBack(shape)
        connect(m, fetch.axi, flipped(port.read))
        connect(m, writer.axi, flipped(port.write))

        # Which token has the present bank, and which wants it.
        present, held, row, due_row, old_row = (
            Signal(), Signal(), *(Signal(shape.lexical_bits, name=name)
                                  for name in ("row_present", "row_due", "row_old")))
        waiting, flushing, swap = Signal(), Signal(), Signal()
        landed, failed, changed, old_changed = (
            Signal(shape.layers, name=name)
            for name in ("landed", "failed", "changed", "old_changed"))
        keep, now_changed = Signal(), Signal(shape.layers)
        wanted = self.identity & shape.options.lexical - 1
        m.d.comb += [
            keep.eq(self.write & held & ~failed.bit_select(self.write_layer, 1)),
            now_changed.eq(changed | Mux(keep, 1 << self.write_layer, 0)[:shape.layers]),
            swap.eq((waiting | flushing) & ~self.begin & ~fetch.in_flight & ~writer.busy
                    & ~old_changed.any()),
            fetch.start.eq(swap & ~flushing), fetch.cancel.eq(swap & flushing),
            fetch.stop.eq(waiting | flushing), fetch.stall.eq(self.write),
            writer.go.eq(~fetch.asking | waiting | flushing), writer.pending.eq(old_changed),
            self.ready.eq(~waiting & ~flushing
                          & (~held | landed.bit_select(self.ready_layer, 1)))]
        m.d.sync += changed.eq(now_changed)
        with m.If(fetch.landed.valid):
            m.d.sync += [landed.bit_select(fetch.landed.layer, 1).eq(1),
                         failed.bit_select(fetch.landed.layer, 1).eq(fetch.landed.failed)]
        with m.If(writer.read):
            m.d.sync += old_changed.bit_select(writer.read_layer, 1).eq(0)
        with m.If(self.begin):
            m.d.sync += [due_row.eq(wanted),
                         waiting.eq(~held | (row != wanted) | flushing | port.flush)]
        with m.If(swap):
            m.d.sync += [present.eq(~present), old_row.eq(row), old_changed.eq(now_changed),
                         changed.eq(0), landed.eq(0), failed.eq(0), held.eq(~flushing),
                         flushing.eq(0)]
            with m.If(~flushing):
                m.d.sync += [row.eq(due_row), waiting.eq(0)]
        with m.If(port.flush):
            m.d.sync += flushing.eq(1)

        def home(of):
            stride_bits = self.layout.token_stride.bit_length() - 1
            return port.base + Cat(Const(0, stride_bits), of)
        m.d.comb += [fetch.address.eq(home(row)), writer.address.eq(home(old_row))]

        # The banks.
        got = []
        for at, contents in enumerate(self.banks):
            m.submodules[f"bank_{at}"] = memory = Memory(contents)
            read, write = memory.read_port(), memory.write_port(granularity=1)
            got.append(read.data)
            with m.If(present == at):
                m.d.comb += [read.en.eq(self.read), read.addr.eq(self.read_layer)]
                with m.If(keep):
                    m.d.comb += [write.en.eq(~0), write.addr.eq(self.write_layer),
                                 Cat(*write.data).eq(self.write_row)]
                with m.Else():
                    m.d.comb += [
                        write.en.eq(Mux(fetch.beat.valid, 1 << fetch.beat.index, 0)),
                        write.addr.eq(fetch.beat.layer),
                        *(write.data[i].eq(fetch.beat.data)
                          for i in range(self.layout.row_beats))]
            with m.Else():
                m.d.comb += [read.en.eq(writer.read), read.addr.eq(writer.read_layer)]
        known = Signal()  # whether the row that is read has contents
        m.d.sync += known.eq(held & ~failed.bit_select(self.read_layer, 1))
        row_now = Cat(*Array(got)[present])[:shape.row.size]
        m.d.comb += [self.row.eq(Mux(known, row_now, 0)), writer.row.eq(Array(got)[~present])]

        # Reports; a response to a write waits for the report of a failed read.
        refused = Signal()
        m.d.comb += [
            refused.eq(fetch.landed.valid & fetch.landed.failed),
            writer.stall.eq(refused),
            port.busy.eq(waiting | flushing | fetch.asking | fetch.in_flight | writer.busy
                         | old_changed.any()),
            port.beats_read.eq(fetch.beat.valid),
            port.beats_written.eq(port.write.w.valid & port.write.w.ready)]
        with m.If(refused):
            m.d.comb += [port.error.valid.eq(1), port.error.layer.eq(fetch.landed.layer)]
        with m.Else():
            m.d.comb += [port.error.valid.eq(writer.failed.valid),
                         port.error.layer.eq(writer.failed.layer)]
        return m
