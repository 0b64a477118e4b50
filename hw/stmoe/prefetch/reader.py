"""AXI4 read back end of the prefetch DMA: bursts in flight, in any order of their answers."""

from amaranth.hdl import Array, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import AxiReadSignature
from ..one_of import number_of
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
    drop: per channel, its bursts, and one that is taken in this cycle, are of no use any more; from
        the next cycle on nothing is reported of them, and their beats are drained.
    fill: a beat has landed. written: beats filled of each channel's transfer, this cycle's too,
        again where a burst is read again.
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
            "written": Out(data.ArrayLayout(unsigned(g.landed_bits), channels)),
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

        # One entry per AXI id. What all are asked for at a time is in registers, the rest in RAM.
        id_bits = max(1, (count - 1).bit_length())
        turns = unsigned(id_bits)  # bursts of a channel, in the order given
        entry = data.StructLayout({
            "channel": self.landed.channel.shape(), "turn": turns,
            "tries": range(g.config.retries + 1)})
        entries = [Signal(entry, name=f"burst_{i}") for i in range(count)]
        used, dropped, dropping, done, again, error = (Signal(count, name=name) for name in (
            "used", "dropped", "dropping", "done", "again", "error"))
        fresh = Signal(count, init=(1 << count) - 1)  # nothing of it has come
        dropped_channels = Signal(self.channels)
        m.d.sync += dropped_channels.eq(self.drop)
        m.d.comb += self.busy.eq(used.any())

        def table(name, layout):
            """A RAM with a word per id, and how to read it in the same cycle."""
            m.submodules[name] = ram = memory.Memory(shape=layout, depth=max(2, count), init=[])
            write, read = ram.write_port(), ram.read_port(domain="comb")
            return write, read.addr, read.data

        def lowest(of, name):
            """The lowest bit that is set, alone."""
            bits = Signal(count, name=name)
            m.d.comb += [bits[i].eq(of[i] & ~of[:i].any()) for i in range(count)]
            return bits

        # AR: bursts to be repeated first, then the next one.
        free, repeat = lowest(~used, "free"), lowest(again, "repeat")
        room, is_repeat, takes_order, repeats = Signal(), Signal(), Signal(), Signal()
        order = self.order.payload
        write_request, read_request, repeated = table("requests", data.StructLayout(
            {"address": g.config.axi_addr_bits, "len": 8}))
        next_len, took = Signal(8), Signal()
        m.d.comb += [
            room.eq(~ar.valid | ar.ready), self.order.ready.eq(room & ~used.all() & ~again.any()),
            takes_order.eq(self.order.valid & self.order.ready),
            repeats.eq(room & (repeat & ~dropping).any()),
            ar.payload.size.eq(g.axi_bytes.bit_length() - 1), ar.payload.burst.eq(INCR),
            self.bursts.eq(ar.valid & ar.ready), self.retried.eq(self.bursts & is_repeat)]
        m.d.comb += [read_request.eq(number_of(repeat)),
                     next_len.eq(Mux(again.any(), repeated.len, order.len))]
        with m.If(room):
            m.d.sync += [
                ar.valid.eq(takes_order | repeats), is_repeat.eq(again.any()),
                ar.payload.addr.eq(Mux(again.any(), repeated.address, order.address)),
                ar.payload.len.eq(next_len),
                ar.payload.id.eq(Mux(again.any(), number_of(repeat), number_of(free)))]
        turn_given = [Signal(turns, name=f"turn_given_{c}") for c in range(self.channels)]
        turn_due = [Signal(turns, name=f"turn_due_{c}") for c in range(self.channels)]
        for channel, turn in enumerate(turn_given):
            with m.If(takes_order & (order.channel == channel)):
                m.d.sync += turn.eq(turn + 1)
        for i in range(count):
            m.d.sync += dropping[i].eq(self.drop.bit_select(entries[i].channel, 1))
            with m.If(repeats & repeat[i]):
                m.d.sync += again[i].eq(0)
            with m.If(takes_order & free[i]):
                m.d.sync += [
                    entries[i].channel.eq(order.channel),
                    entries[i].turn.eq(Array(turn_given)[order.channel]),
                    entries[i].tries.eq(g.config.retries), used[i].eq(1), dropped[i].eq(0),
                    dropping[i].eq(self.drop.bit_select(order.channel, 1))]

        # What follows from a burst is worked out in the two cycles after it is given, before any of
        # it can come, or be over.
        given, ending = Signal(burst(g, self.channels)), Signal(data.StructLayout({
            "valid": 1, "id": id_bits, "channel": order.channel.shape(), "slot": g.slot_bits,
            "end": g.beat_bits}))
        crcs, crcs_ending = ((beats >> tile_shift) if g.config.integrity else 0
                             for beats in (given.beat, ending.end))
        blob_beats = self.blob_beats
        if g.config.dense_blobs:
            blob_beats = Mux(self.matrix.bit_select(ending.channel, 1), self.matrix_beats,
                             self.blob_beats)
        whole = ending.end == blob_beats
        write_place, read_place, answered = table("places", data.StructLayout(
            {"channel": order.channel.shape(), "slot": g.slot_bits, "at": g.beat_bits}))
        write_owner, read_owner, ended = table("owners", data.StructLayout(
            {"channel": order.channel.shape(), "tile": g.tile_bits}))
        write_end, read_end, retiring = table("ends", data.StructLayout(
            {"channel": order.channel.shape(), "slot": g.slot_bits, "content": g.beat_bits,
             "first": 1, "whole": 1}))
        with m.If(takes_order):
            m.d.sync += given.eq(order)
        m.d.sync += [
            took.eq(takes_order), ending.valid.eq(took), ending.id.eq(ar.payload.id),
            ending.channel.eq(given.channel), ending.slot.eq(given.slot),
            ending.end.eq(given.beat + given.len + 1)]
        for write in (write_request, write_place, write_owner):
            m.d.comb += [write.en.eq(took), write.addr.eq(ar.payload.id)]
        m.d.comb += [
            write_request.data.address.eq(ar.payload.addr), write_request.data.len.eq(given.len),
            write_place.data.channel.eq(given.channel), write_place.data.slot.eq(given.slot),
            write_place.data.at.eq(given.beat - crcs), write_owner.data.channel.eq(given.channel),
            write_owner.data.tile.eq(given.beat >> tile_shift),
            write_end.en.eq(ending.valid), write_end.addr.eq(ending.id),
            write_end.data.channel.eq(ending.channel), write_end.data.slot.eq(ending.slot),
            write_end.data.content.eq(Mux(whole, ending.end, ending.end - crcs_ending)),
            write_end.data.first.eq((ending.end == g.tile_beats) & ~whole),
            write_end.data.whole.eq(whole)]

        # Beats due, and how long the memory takes when it has nothing else to do.
        asked, arrived = Signal.like(self.due), Signal.like(self.due)
        asking, empty = Signal(), Signal()
        m.d.comb += self.due.eq(asked - arrived)
        m.d.sync += [arrived.eq(arrived + r.valid), asking.eq(takes_order | repeats),
                     empty.eq(asked == arrived)]
        with m.If(takes_order | repeats):
            m.d.sync += asked.eq(asked + next_len + 1)
        timing, elapsed = Signal(), Signal(LATENCY_BITS)
        with m.If(asking & empty):
            m.d.sync += [timing.eq(1), elapsed.eq(2)]
        with m.Elif(timing & r.valid):
            m.d.sync += [timing.eq(0), self.latency.eq(elapsed)]
        with m.Elif(~elapsed.all()):
            m.d.sync += elapsed.eq(elapsed + 1)

        # R: a register stage towards the buffer.
        takes, received = Signal(), Signal(range(max(2, min(256, g.config.burst_beats))))
        is_fresh = fresh.bit_select(r.payload.id, 1)
        write_count, read_count, counted = table("counts", received.shape())
        m.d.comb += [
            read_place.eq(r.payload.id), read_count.eq(r.payload.id),
            received.eq(Mux(is_fresh, 0, counted)), write_count.en.eq(r.valid),
            write_count.addr.eq(r.payload.id), write_count.data.eq(received + 1),
            r.ready.eq(1), self.beats.eq(r.valid),
            takes.eq(r.valid & (used & ~dropped & ~dropping).bit_select(r.payload.id, 1)
                     & ~(r.payload.last & g.config.integrity))]
        m.d.sync += [
            self.came.channel.eq(answered.channel),
            self.came.valid.eq(r.valid & (used & ~dropped).bit_select(r.payload.id, 1))]
        for c in range(self.channels):
            with m.If(takes & (answered.channel == c)):
                m.d.sync += self.written[c].eq(self.written[c] + 1)
        m.d.sync += [
            self.fill.valid.eq(takes),
            self.fill.payload.slot.eq(answered.slot), self.fill.payload.data.eq(r.payload.data),
            self.fill.payload.beat.eq(answered.at + received)]

        # A burst is over with its last beat, or with the verdict on it.
        over, bad, corrupt = Signal(), Signal(), Signal()
        name = Signal(id_bits)
        ended_error = error.bit_select(name, 1)
        m.d.comb += read_owner.eq(name)
        if g.config.integrity:
            m.submodules.check = check = TileCheck(g.config.axi_data_bits, count)
            m.d.sync += [check.beat.valid.eq(r.valid), check.beat.burst.eq(r.payload.id),
                         check.beat.first.eq(is_fresh),
                         check.beat.last.eq(r.payload.last)]
            m.d.comb += [
                check.beat.data.eq(self.fill.payload.data), name.eq(check.verdict.burst),
                over.eq(check.verdict.valid), corrupt.eq(~ended_error & ~check.verdict.good),
                bad.eq(ended_error | corrupt)]
        else:
            m.d.comb += [name.eq(r.payload.id), over.eq(r.valid & r.payload.last),
                         bad.eq(ended_error | r.payload.resp[1])]
        m.d.comb += self.corrupted.eq(over & corrupt)
        m.d.sync += [self.failed.valid.eq(0), self.failed.channel.eq(ended.channel),
                     self.failed.tile.eq(ended.tile), self.failed.corrupt.eq(corrupt)]
        for i in range(count):
            mine = entries[i]
            with m.If(r.valid & (r.payload.id == i)):
                m.d.sync += [fresh[i].eq(0), error[i].eq(error[i] | r.payload.resp[1])]
            with m.If(over & (name == i)):
                m.d.sync += [fresh[i].eq(1), error[i].eq(0)]
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
        in_turn = Signal(count)  # of what is done: a cycle after the burst before it has retired
        for i in range(count):
            m.d.sync += in_turn[i].eq(entries[i].turn == Array(turn_due)[entries[i].channel])
        ripe, moves = Signal(count), Signal()
        m.d.comb += [ripe.eq(done & ~dropping & in_turn), moves.eq(~self.landed.valid | ~self.hold)]
        chosen = lowest(ripe, "chosen")
        m.d.comb += read_end.eq(number_of(chosen))
        with m.If(moves):
            m.d.sync += [
                self.landed.valid.eq(ripe.any()),
                *(self.landed[name].eq(retiring[name])
                  for name in ("channel", "slot", "content", "first", "whole"))]
            for channel, turn in enumerate(turn_due):
                with m.If(ripe.any() & (retiring.channel == channel)):
                    m.d.sync += turn.eq(turn + 1)
            for i in range(count):
                with m.If(chosen[i]):
                    m.d.sync += [used[i].eq(0), done[i].eq(0)]
        with m.Elif(dropped_channels.bit_select(self.landed.channel, 1)):
            m.d.sync += self.landed.valid.eq(0)
        for channel in range(self.channels):
            with m.If(self.begin[channel]):
                m.d.sync += [turn_given[channel].eq(0), turn_due[channel].eq(0),
                             self.written[channel].eq(0)]
        return m
