"""Weights of a few layers on chip, of all in expert memory."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import ConfigError
from ..config.geometry import BLOCK_READS
from ..config.weight_layout import WeightLayout
from .linear_block import BlockFetch
from .linear_rewrite import BlockWriteBack
from .linear_shape import LinearShape
from .linear_stream import LexicalPort

__all__ = ["WeightWindow", "WindowSignature"]


class WindowSignature(wiring.Signature):
    """Which layers' weights are on chip, seen from what holds them.

    want, want_layer: pulse, layers from this one on are needed next, in rising order, behind the
        last of ``layers`` layer 0; earlier ones no more.
    layers: in use.
    layer, here, absent: whether the weights of ``layer`` can be read; or will not be unless they
        are wanted.
    learn_layer, held: likewise, of the layer that is to be learned.
    settled: nothing that was learned is still to be written; before, no other layer is learned.
    idle: no layer is in work, and none begins before the next cycle.
    """

    def __init__(self, shape: LinearShape):
        layer = shape.geometry.layer_bits
        super().__init__({
            "want": In(1), "want_layer": In(layer), "layers": In(9),
            "layer": In(layer), "here": Out(1), "absent": Out(1),
            "learn_layer": In(layer), "held": Out(1), "settled": Out(1), "idle": In(1)})


class WeightWindow(wiring.Component):
    """A ring of ``window`` slots, each for the block of a layer: the layer that is wanted and those
    behind it, each layer once.

    When a later layer is wanted, the slots before it are free, and blocks are read into them, in
    the order of layers, one after the other; a layer that is not in the ring empties it. Rows that
    were learned are written back at once. A block is only begun while no write-back is under way,
    and a layer is only in one slot: what is read from memory is hence what was last learned,
    however few the layers and slow the memory.

    Latency: ``row`` one cycle after ``read``. From ``want`` of a layer that is absent, with nothing
    under way: AR valid four cycles later, its weights are there two cycles after the last beat.
    Throughput: a beat per cycle; R waits in cycles of ``write``.
    Errors: a block that could not be read is 0, and is not written, until it is read again; what
    was learned of a row that could not be written is lost. ``port.error`` tells.
    A flush, once ``idle``: the ring is empty until the next ``want``. Reset: likewise. Memory has
    to hold the weights, zeros for a cold start, before the first ``want``.

    Parameters
    ----------
    shape: LinearShape, with weights in memory.
    first_id, reads: AXI read ids ``first_id`` .. ``first_id + reads - 1`` are its own.

    Members
    -------
    See :class:`WindowSignature`. port: see :class:`LexicalPort`.
    read_layer: of rows read and written, there from two cycles before the first of them on.
    read, address: row to read; ``row`` answers one cycle later, for that cycle only.
    write, write_address, write_row: row to keep; not the one that is read in that cycle.
    ``slots`` is the slots' contents, for simulation.
    """

    def __init__(self, shape: LinearShape, *, first_id: int = 0, reads: int = BLOCK_READS):
        self.shape, self.first_id, self.reads = shape, first_id, reads
        g = shape.geometry
        if first_id + reads > 1 << g.id_bits:
            raise ConfigError("weight ids", first_id + reads,
                              f"at most {1 << g.id_bits} with AXI ids of {g.id_bits} bits")
        layout = self.layout = WeightLayout(g, shape.options)
        beats = data.ArrayLayout(g.config.axi_data_bits, layout.row_beats)
        self.slots = MemoryData(shape=beats, depth=shape.options.window * layout.rows, init=[])
        super().__init__({
            **WindowSignature(shape).members, "port": Out(LexicalPort(g)),
            "read_layer": In(g.layer_bits),
            "read": In(1), "address": In(shape.address_bits), "row": Out(shape.row),
            "write": In(1), "write_address": In(shape.address_bits), "write_row": In(shape.row)})

    def elaborate(self, platform):
        m = Module()
        shape, port, layout = self.shape, self.port, self.layout
        count = shape.options.window
        m.submodules.fetch = fetch = BlockFetch(
            shape, first_id=self.first_id, reads=self.reads)
        m.submodules.write_back = writer = BlockWriteBack(shape)
        connect(m, fetch.axi, flipped(port.read))
        connect(m, writer.axi, flipped(port.write))
        blocks = Signal.like(port.base)
        m.d.sync += blocks.eq(port.base + layout.offset)
        m.d.comb += [fetch.base.eq(blocks), writer.base.eq(blocks)]

        # The ring: slots from ``head`` on have a layer, up to ``tail``, and its block, up to
        # ``filled``.
        layers = [Signal.like(self.layer, name=f"layer{slot}") for slot in range(count)]
        taken, full, failed = (Signal(count, name=name) for name in ("taken", "full", "failed"))
        head, tail, filled = (Signal(range(count), name=name) for name in (
            "head", "tail", "filled"))
        active, goal, after = Signal(), Signal.like(self.layer), Signal.like(self.layer)
        stale, repeated, complete, flushing, drop, dropped = (Signal(name=name) for name in (
            "stale", "repeated", "complete", "flushing", "drop", "dropped"))

        def bit(bits, slot):
            return bits.bit_select(slot, 1)

        def having(layer):
            return Cat(each == layer for each in layers)
        m.d.comb += [
            stale.eq(bit(taken, head) & (Array(layers)[head] != goal)),
            repeated.eq((having(after) & taken).any()),
            complete.eq(~active | (~stale & (taken.all() | repeated))),
            self.here.eq((having(self.layer) & full).any()),
            self.absent.eq(complete & ~(having(self.layer) & taken).any()),
            self.held.eq((having(self.learn_layer) & full).any()),
            self.settled.eq(writer.settled),
            drop.eq(flushing & self.idle),
            fetch.layer.eq(Array(layers)[filled]),
            fetch.start.eq(bit(taken, filled) & ~bit(full, filled) & ~fetch.active & ~stale
                           & writer.settled & ~drop),
            fetch.cancel.eq(drop | (stale & (head == filled))),
            port.busy.eq(flushing | fetch.active | ~complete | (taken != full) | ~writer.settled)]

        grown = Signal.like(self.layer)
        m.d.comb += grown.eq(Mux(taken.any(), after, goal))
        with m.If(active & ~stale & ~bit(taken, tail) & ~(taken.any() & repeated) & ~drop):
            m.d.sync += [bit(taken, tail).eq(1), tail.eq(tail + 1), Array(layers)[tail].eq(grown),
                         after.eq(Mux(grown + 1 >= self.layers, 0, grown + 1))]
        with m.If(fetch.start):
            m.d.sync += dropped.eq(0)
        with m.If(fetch.active & fetch.cancel):
            m.d.sync += dropped.eq(1)
        with m.If(fetch.done & ~dropped & ~fetch.cancel):
            m.d.sync += [bit(full, filled).eq(1), bit(failed, filled).eq(fetch.failed),
                         filled.eq(filled + 1)]
        with m.If(stale & ~(fetch.active & (head == filled))):
            m.d.sync += [bit(taken, head).eq(0), bit(full, head).eq(0), head.eq(head + 1)]
            with m.If(~bit(full, head)):
                m.d.sync += filled.eq(filled + 1)
        with m.If(self.want):
            m.d.sync += [active.eq(1), goal.eq(self.want_layer)]
        with m.If(drop & ~fetch.active & writer.settled):
            m.d.sync += [flushing.eq(0), active.eq(0), taken.eq(0), full.eq(0), tail.eq(head),
                         filled.eq(head)]
        with m.If(port.flush):
            m.d.sync += flushing.eq(1)

        # The slots' memory: the predictor's accesses go first.
        m.submodules.slots = memory = Memory(self.slots)
        read, write = memory.read_port(), memory.write_port(granularity=1)
        slot, good = Signal(range(count)), Signal()  # of ``read_layer``; whether it has contents
        for at, has in enumerate(having(self.read_layer) & full):
            with m.If(has):
                m.d.sync += slot.eq(at)
        m.d.sync += good.eq((having(self.read_layer) & full & ~failed).any())
        learned, learned_slot = Signal.like(self.layer), Signal.like(slot)
        keep = Signal()

        def place(slot, row):
            return Array(range(0, count * layout.rows, layout.rows))[slot] + row
        m.d.comb += [
            read.en.eq(self.read | writer.read), writer.granted.eq(~self.read),
            read.addr.eq(Mux(self.read, place(slot, self.address),
                             place(learned_slot, writer.read_row))),
            self.row.eq(Mux(good, Cat(*read.data)[:shape.row.size], 0)), writer.row.eq(read.data),
            keep.eq(self.write & good), fetch.stall.eq(keep),
            writer.changed.eq(keep), writer.changed_row.eq(self.write_address),
            writer.layer.eq(learned)]
        with m.If(keep):
            m.d.sync += [learned.eq(self.read_layer), learned_slot.eq(slot)]
            m.d.comb += [write.en.eq(~0), write.addr.eq(place(slot, self.write_address)),
                         Cat(*write.data).eq(self.write_row)]
        with m.Else():
            m.d.comb += [
                write.en.eq(Mux(fetch.beat.valid, 1 << fetch.beat.index, 0)),
                write.addr.eq(place(filled, fetch.beat.row)),
                *(write.data[i].eq(fetch.beat.data) for i in range(layout.row_beats))]

        # Reports; a response to a write waits for the report of a failed read.
        refused = Signal()
        m.d.comb += [
            refused.eq(fetch.done & fetch.failed & ~dropped & ~fetch.cancel),
            writer.stall.eq(refused),
            port.error.valid.eq(refused | writer.failed),
            port.error.layer.eq(Mux(refused, fetch.layer, learned)),
            port.beats_read.eq(fetch.beat.valid),
            port.beats_written.eq(port.write.w.valid & port.write.w.ready)]
        return m
