"""AXI4 read back end of the prefetch DMA: bursts in flight, in any order of their answers."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import AxiReadSignature
from ..one_of import one_of
from .crc import TileCheck

__all__ = ["BurstReader", "burst"]

INCR = 1
LATENCY_BITS = 10
CHECKING = 1 + TileCheck.LATENCY  # cycles from a tile's last beat to the verdict


def burst(g: Geometry, channels: int) -> data.StructLayout:
    """A legal burst of a channel's transfer, ``beat`` counting from the start of the blob; ``len``:
    beats less one."""
    return data.StructLayout({
        "channel": unsigned(max(1, (channels - 1).bit_length())), "slot": unsigned(g.slot_bits),
        "address": unsigned(g.config.axi_addr_bits), "beat": unsigned(g.beat_bits),
        "len": unsigned(8)})


class BurstReader(wiring.Component):
    """Keeps up to ``outstanding`` bursts in flight, one AXI id each.

    Beats are passed on as they come. A channel's bursts are retired in the order given, whatever
    the order of their last beats; a burst with an error response is read again ``retries`` times
    before its channel is reported as failed. With ``integrity`` a burst is a tile, and so is one
    whose CRC, in its last beat, is wrong; the verdict comes :data:`CHECKING` cycles after that
    beat, which goes no further. R is never stalled. Reset: nothing in flight.

    Parameters
    ----------
    geometry: Geometry
    channels: transfers that may be in work at a time.

    Members
    -------
    order: bursts. begin: per channel, a new transfer begins (before its first burst).
    drop: per channel, its bursts in flight are of no use any more; from this cycle on nothing is
        reported of them, and their beats are drained.
    fill: a beat has landed. written: beats filled of each channel's transfer, this cycle's too.
    landed: a channel's blob has landed up to the end of a burst, which stands while ``hold``:
        ``content``, beats of its content, or all of its beats if ``whole``; ``first``: its first
        tile has, and is not all of it. blob_beats: of every transfer, stable; where there are parts
        of matrices, those of a channel whose ``matrix`` is set have ``matrix_beats``.
    failed: channel that failed, at which tile, and whether it was ``corrupt`` in the end.
    axi: read channels. busy: bursts are in flight.
    due: beats asked for that have not come.
    came: a beat of a channel's transfer came in the cycle before.
    latency: cycles from the last burst taken while nothing was due to its first beat, to 1023.
    beats, bursts, retried, corrupted: increments for counters.
    """

    def __init__(self, geometry: Geometry, channels: int):
        g = self.geometry = geometry
        self.channels = channels
        channel_bits = max(1, (channels - 1).bit_length())
        super().__init__({
            "order": In(stream.Signature(burst(g, channels))),
            "begin": In(channels), "drop": In(channels), "hold": In(1),
            "fill": Out(data.StructLayout({"valid": 1, "payload": interfaces.fill(g)})),
            "written": Out(data.ArrayLayout(unsigned(24), channels)),
            "landed": Out(data.StructLayout(
                {"valid": 1, "channel": channel_bits, "slot": g.slot_bits,
                 "content": g.beat_bits, "first": 1, "whole": 1})),
            "blob_beats": In(g.beat_bits),
            "failed": Out(data.StructLayout({
                "valid": 1, "channel": channel_bits, "tile": g.tile_bits, "corrupt": 1})),
            "axi": Out(AxiReadSignature(g)),
            "beats": Out(1), "bursts": Out(1), "retried": Out(1), "corrupted": Out(1),
            "busy": Out(1), "came": Out(data.StructLayout({"valid": 1, "channel": channel_bits})),
            "due": Out(range(256 * g.config.outstanding + 1)),
            "latency": Out(LATENCY_BITS)} | ({
                "matrix": In(channels), "matrix_beats": In(g.beat_bits)}
                if g.config.dense_blobs else {}))

    def elaborate(self, platform):
        m = Module()
        g, count = self.geometry, self.geometry.config.outstanding
        tile_shift = g.tile_beats.bit_length() - 1
        ar, r = self.axi.ar, self.axi.r

        # One entry per AXI id.
        entry = data.StructLayout({
            **dict(burst(g, self.channels).members), "tries": 3, "received": 9, "error": 1,
            # Known a few cycles after the burst is given, which is before it can be over.
            "end": g.beat_bits, "content": g.beat_bits, "at": g.beat_bits, "whole": 1, "first": 1})
        entries = [Signal(entry, name=f"burst_{i}") for i in range(count)]
        used, dropped, done, again = (
            Signal(count, name=name) for name in ("used", "dropped", "done", "again"))
        dropping = Signal(count)
        for i in range(count):
            m.d.comb += dropping[i].eq(self.drop.bit_select(entries[i].channel, 1))
        m.d.comb += self.busy.eq(used.any())

        def lowest(of, name):
            """The lowest bit that is set, alone."""
            bits = Signal(count, name=name)
            m.d.comb += [bits[i].eq(of[i] & ~of[:i].any()) for i in range(count)]
            return bits

        # AR: bursts to be repeated first, then the next one.
        free, repeat = lowest(~used, "free"), lowest(again, "repeat")
        room, is_repeat, takes_order, repeats = Signal(), Signal(), Signal(), Signal()
        order = self.order.payload
        m.d.comb += [
            room.eq(~ar.valid | ar.ready), self.order.ready.eq(room & ~used.all() & ~again.any()),
            takes_order.eq(self.order.valid & self.order.ready),
            repeats.eq(room & (repeat & ~dropping).any()),
            ar.payload.size.eq(g.axi_bytes.bit_length() - 1), ar.payload.burst.eq(INCR),
            self.bursts.eq(ar.valid & ar.ready), self.retried.eq(self.bursts & is_repeat)]
        numbers = [Cat(pick[i] for i in range(count) if i >> bit & 1).any()
                   for pick in (repeat, free) for bit in range(len(ar.payload.id))]
        with m.If(room):
            m.d.sync += ar.valid.eq(takes_order | repeats)
            with m.If(again.any()):
                repeated = data.View(entry, one_of(repeat, entries))
                m.d.sync += [
                    ar.payload.addr.eq(repeated.address), ar.payload.len.eq(repeated.len),
                    ar.payload.id.eq(Cat(numbers[:len(ar.payload.id)])), is_repeat.eq(1)]
            with m.Else():
                m.d.sync += [
                    ar.payload.addr.eq(order.address), ar.payload.len.eq(order.len),
                    ar.payload.id.eq(Cat(numbers[len(ar.payload.id):])), is_repeat.eq(0)]
        for i in range(count):
            with m.If(repeats & repeat[i]):
                m.d.sync += again[i].eq(0)
            with m.If(takes_order & free[i]):
                m.d.sync += [
                    *(entries[i][name].eq(order[name]) for name, _ in burst(g, self.channels)),
                    entries[i].tries.eq(g.config.retries), entries[i].received.eq(0),
                    entries[i].error.eq(0), used[i].eq(1), dropped[i].eq(0)]

        # Beats due, and how long the memory takes when it has nothing else to do.
        asked, arrived = Signal.like(self.due), Signal.like(self.due)
        asking, empty = Signal(), Signal()
        m.d.comb += self.due.eq(asked - arrived)
        m.d.sync += [arrived.eq(arrived + r.valid), asking.eq(takes_order | repeats),
                     empty.eq(asked == arrived)]
        with m.If(takes_order):
            m.d.sync += asked.eq(asked + order.len + 1)
        with m.Elif(repeats):
            m.d.sync += asked.eq(asked + repeated.len + 1)
        timing, elapsed = Signal(), Signal(LATENCY_BITS)
        with m.If(asking & empty):
            m.d.sync += [timing.eq(1), elapsed.eq(2)]
        with m.Elif(timing & r.valid):
            m.d.sync += [timing.eq(0), self.latency.eq(elapsed)]
        with m.Elif(~elapsed.all()):
            m.d.sync += elapsed.eq(elapsed + 1)

        # R: a register stage towards the buffer.
        answered = Array(entries)[r.payload.id]
        takes = Signal()
        m.d.comb += [
            r.ready.eq(1), self.beats.eq(r.valid),
            takes.eq(r.valid & (used & ~dropped & ~dropping).bit_select(r.payload.id, 1)
                     & ~(r.payload.last & g.config.integrity))]
        m.d.sync += [
            self.came.channel.eq(answered.channel),
            self.came.valid.eq(r.valid & (used & ~dropped).bit_select(r.payload.id, 1))]
        with m.If(takes):
            m.d.sync += self.written[answered.channel].eq(self.written[answered.channel] + 1)
        m.d.sync += [
            self.fill.valid.eq(takes),
            self.fill.payload.slot.eq(answered.slot), self.fill.payload.data.eq(r.payload.data),
            self.fill.payload.beat.eq(answered.at + answered.received)]

        # A burst is over with its last beat, or with the verdict on it.
        over, bad, corrupt = Signal(), Signal(), Signal()
        name = Signal(range(max(2, count)))
        ended = Array(entries)[name]
        if g.config.integrity:
            m.submodules.check = check = TileCheck(g.config.axi_data_bits, count)
            m.d.sync += [check.beat.valid.eq(r.valid), check.beat.burst.eq(r.payload.id),
                         check.beat.first.eq(answered.received == 0),
                         check.beat.last.eq(r.payload.last)]
            m.d.comb += [
                check.beat.data.eq(self.fill.payload.data), name.eq(check.verdict.burst),
                over.eq(check.verdict.valid), corrupt.eq(~ended.error & ~check.verdict.good),
                bad.eq(ended.error | corrupt)]
        else:
            m.d.comb += [name.eq(r.payload.id), over.eq(r.valid & r.payload.last),
                         bad.eq(ended.error | r.payload.resp[1])]
        m.d.comb += self.corrupted.eq(over & corrupt)
        m.d.sync += [self.failed.valid.eq(0), self.failed.channel.eq(ended.channel),
                     self.failed.tile.eq(ended.beat >> tile_shift),
                     self.failed.corrupt.eq(corrupt)]
        for i in range(count):
            mine = entries[i]
            with m.If(r.valid & (r.payload.id == i)):
                m.d.sync += [mine.received.eq(mine.received + 1),
                             mine.error.eq(mine.error | r.payload.resp[1])]
            with m.If(over & (name == i)):
                m.d.sync += [mine.received.eq(0), mine.error.eq(0)]
                with m.If(dropped[i] | dropping[i]):
                    m.d.sync += used[i].eq(0)
                with m.Elif(~bad):
                    m.d.sync += done[i].eq(1)
                with m.Elif(mine.tries == 0):
                    m.d.sync += [used[i].eq(0), self.failed.valid.eq(1)]
                with m.Else():
                    m.d.sync += [again[i].eq(1), mine.tries.eq(mine.tries - 1)]
            with m.Elif(used[i] & dropping[i]):
                m.d.sync += dropped[i].eq(1)
                with m.If(done[i] | again[i]):  # nothing of it is on the bus
                    m.d.sync += [used[i].eq(0), done[i].eq(0), again[i].eq(0)]

        # Retirement, in order within a channel.
        marks = [Signal(g.beat_bits, name=f"landed_{c}") for c in range(self.channels)]
        mark_of = Array(marks)
        in_turn = Signal(count)  # of what is done: a cycle after the burst before it has retired
        for i in range(count):
            mine, blob_beats = entries[i], self.blob_beats
            if g.config.dense_blobs:
                blob_beats = Mux(self.matrix.bit_select(mine.channel, 1), self.matrix_beats,
                                 self.blob_beats)
            crcs, crcs_before = ((beats >> tile_shift) if g.config.integrity else 0
                                 for beats in (mine.end, mine.beat))
            m.d.sync += [
                in_turn[i].eq(mine.beat == mark_of[mine.channel]),
                mine.at.eq(mine.beat - crcs_before),
                mine.end.eq(mine.beat + mine.len + 1), mine.whole.eq(mine.end == blob_beats),
                mine.first.eq((mine.end == g.tile_beats) & (mine.end != blob_beats)),
                mine.content.eq(Mux(mine.end == blob_beats, mine.end, mine.end - crcs))]
        ripe, moves = Signal(count), Signal()
        m.d.comb += [ripe.eq(done & ~dropping & in_turn), moves.eq(~self.landed.valid | ~self.hold)]
        chosen = lowest(ripe, "chosen")
        retiring = data.View(entry, one_of(chosen, entries))
        with m.If(moves):
            m.d.sync += [
                self.landed.valid.eq(ripe.any()),
                *(self.landed[name].eq(retiring[name])
                  for name in ("channel", "slot", "content", "first", "whole"))]
            for i in range(count):
                with m.If(chosen[i]):
                    m.d.sync += [mark_of[entries[i].channel].eq(entries[i].end), used[i].eq(0),
                                 done[i].eq(0)]
        with m.Elif(self.drop.bit_select(self.landed.channel, 1)):
            m.d.sync += self.landed.valid.eq(0)
        for channel, mark in enumerate(marks):
            with m.If(self.begin[channel]):
                m.d.sync += [mark.eq(0), self.written[channel].eq(0)]
        return m
