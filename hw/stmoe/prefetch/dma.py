"""Prefetch DMA: brings experts from memory into slots of the buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .. import interfaces
from ..config import Geometry
from ..interfaces import AxiReadSignature, Status
from ..one_of import number_of, one_of
from .legaliser import PAGE_BYTES, Legaliser
from .reader import BurstReader
from .ring import RingGuard

__all__ = ["PrefetchDma"]

ISSUE = 2  # cycles from the choice of a burst to AR
WAIT_BITS = 16


class PrefetchDma(wiring.Component):
    """Front end (transfers in hand), legaliser and AXI4 read back end.

    Bursts are issued for the oldest demand transfer, in its absence for the oldest prefetch. Of
    prefetches no more is asked for ahead than what the memory needs to go on without a pause: a
    burst, while no more beats are due than its latency has cycles, and at most the beats of
    ``prefetch_bursts`` in all: a demand waits for about a burst of them. Half of the
    ``transfers`` in hand may be prefetches: one outdated early is better not ordered at all.
    A transfer's watermark is set to 0 in the cycle in which it is accepted and grows as tiles land
    in order. After the last tile DONE is reported; FIRST before it, once the first tile has landed.
    A burst that fails ``retries`` + 1 times ends its transfer: watermark at the blob's end, FAILED.
    With ``integrity`` no watermark covers a beat whose tile has not been checked.
    With ``shape.ring`` a burst is asked for once every word has been read in whose place it goes.
    A transfer's first burst is asked for six cycles after its order; then one burst per two cycles
    is issued, as ``outstanding`` allows, and a beat per cycle is taken. Back-pressure on ``status``
    and on AR is honoured; R is never stalled. Reset: nothing in hand; beats of bursts asked for
    before must not arrive after it, so the interconnect is reset together with this block.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    demand, prefetch: orders; a slot has one transfer at a time.
    promote: makes the transfer to ``slot``, if in hand, a demand.
    cancel: forgets the transfer to ``slot``, with every report of it, in this cycle, which
        ``cancel_ack`` confirms in the next; ``cancel_beats`` are then the beats of it that the link
        carries, ``cancel_landed`` those that were written to the buffer.
    status: reports; withdrawn by ``cancel`` only.
    fill, progress: to the buffer, beats without CRCs; ``progress`` ends at ``blob_beats``.
    axi: read channels. shape: run-time shape.
    passed: how far each PE has read its expert; only where experts stream through.
    beats, bursts, retried, corrupted: increments for counters.
    active: a transfer in hand, or beats to drain. demanding: a demand in hand.
    first_beat: one cycle after the first beat of a demand that was offered while none was in hand:
        ``cycles`` from the offer to that beat, to 65,535.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        order = stream.Signature(interfaces.transfer(g))
        on_slot = data.StructLayout({"valid": 1, "slot": g.slot_bits})
        super().__init__({
            "demand": In(order), "prefetch": In(order),
            "promote": In(on_slot), "cancel": In(on_slot),
            "cancel_ack": Out(1), "cancel_beats": Out(g.beat_bits),
            "cancel_landed": Out(g.landed_bits),
            "status": Out(stream.Signature(interfaces.status(g))),
            "fill": Out(data.StructLayout({"valid": 1, "payload": interfaces.fill(g)})),
            "progress": Out(data.StructLayout(
                {"valid": 1, "slot": g.slot_bits, "beats": g.beat_bits})),
            "axi": Out(AxiReadSignature(g)), "shape": In(interfaces.shape_layout(g)),
            "beats": Out(1), "bursts": Out(1), "retried": Out(1), "corrupted": Out(1),
            "active": Out(1), "demanding": Out(1),
            "first_beat": Out(data.StructLayout({"valid": 1, "cycles": WAIT_BITS}))} | (
            {"passed": In(interfaces.passed(g)).array(g.config.pes)} if g.has_ring else {}))

    def elaborate(self, platform):
        m = Module()
        g, shape = self.geometry, self.shape
        model, channel_count = g.config.model, g.transfers
        m.submodules.reader = reader = BurstReader(g, channel_count)
        connect(m, reader.axi, flipped(self.axi))
        m.d.comb += [
            self.fill.eq(reader.fill), self.beats.eq(reader.beats), self.bursts.eq(reader.bursts),
            self.retried.eq(reader.retried), self.corrupted.eq(reader.corrupted)]

        byte_bits = g.axi_bytes.bit_length() - 1
        # What the legaliser looks at of an address; with CRCs nothing.
        in_page = unsigned(0 if g.config.integrity else PAGE_BYTES.bit_length() - 1)
        channel = data.StructLayout({
            "slot": unsigned(g.slot_bits), "in_page": in_page,  # of the next burst
            "issued": unsigned(g.beat_bits), "left": unsigned(g.beat_bits),  # less one
            "tile": unsigned(g.tile_bits), "corrupt": unsigned(1)})  # why it failed
        dense, model_ids = g.config.dense_blobs, g.config.blob_ids
        matrix = Signal(channel_count)  # parts of matrices, of fewer beats
        channels = [Signal(channel, name=f"channel_{c}") for c in range(channel_count)]
        # Unissued: there are bursts to be asked for. First, done, failed: to be reported.
        valid, demanded, unissued, first, done, failed = (
            Signal(channel_count, name=name)
            for name in ("valid", "demanded", "unissued", "first", "done", "failed"))
        older = [Signal(channel_count, name=f"older_{c}") for c in range(channel_count)]  # than c
        waiting_fail = Signal(channel_count)  # a failed transfer's watermark is still to be moved
        cancelled = Signal(channel_count)
        for c in range(channel_count):
            m.d.comb += cancelled[c].eq(
                self.cancel.valid & valid[c] & (channels[c].slot == self.cancel.slot))
            with m.If(self.promote.valid & (channels[c].slot == self.promote.slot)):
                m.d.sync += demanded[c].eq(1)

        # Acceptance: a demand first; one transfer at a time while its address is computed. What
        # is known of channels is a cycle old, in which none was taken.
        free = Signal(channel_count, init=1)
        prefetching = Signal(range(channel_count + 1))
        locating, accept, full, fewer = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [free.eq(~valid & ~(~valid - 1)), full.eq(valid.all()),
                     fewer.eq(prefetching < channel_count // 2)]
        m.d.comb += [
            prefetching.eq(sum(valid[c] & ~demanded[c] for c in range(channel_count))),
            self.demand.ready.eq(~locating & ~full),
            self.prefetch.ready.eq(~locating & ~full & fewer & ~self.demand.valid),
            accept.eq(~locating & ~full & (self.demand.valid | (self.prefetch.valid & fewer)))]
        order = Signal(interfaces.transfer(g))
        m.d.comb += order.eq(Mux(self.demand.valid, self.demand.payload, self.prefetch.payload))
        beats = Mux(order.matrix, shape.matrix_beats, shape.blob_beats) if dense else (
            shape.blob_beats)
        number = Signal(range(model.layers * model_ids))
        before, within = Signal.like(number), Signal.like(order.expert)
        target = Signal(channel_count)
        product, located = (Signal(g.config.axi_addr_bits, name=name)
                            for name in ("product", "located"))
        m.submodules.blobs = blobs = memory.Memory(
            shape=located.shape(), depth=max(2, channel_count), init=[])
        locates, blob_of = blobs.write_port(), blobs.read_port(domain="comb")
        m.d.comb += [located.eq(shape.base + product), locates.data.eq(located),
                     locates.addr.eq(number_of(target))]
        step = Signal(2)
        with m.If(accept):
            m.d.sync += [before.eq(order.layer * (shape.experts + (model_ids - model.experts))),
                         within.eq(order.expert), target.eq(free), locating.eq(1), step.eq(0)]
            for c in range(channel_count):
                with m.If(free[c]):
                    m.d.comb += reader.begin[c].eq(1)
                    m.d.sync += [
                        channels[c].slot.eq(order.slot), channels[c].issued.eq(0),
                        channels[c].left.eq(beats - 1),
                        valid[c].eq(1), demanded[c].eq(self.demand.valid),
                        unissued[c].eq(0), first[c].eq(0), done[c].eq(0), failed[c].eq(0),
                        older[c].eq(valid)]
                    if dense:
                        m.d.sync += matrix[c].eq(order.matrix)
                with m.Else():
                    m.d.sync += older[c].eq(older[c] & ~free)
        with m.Elif(locating):
            own = within  # ids of shared experts stay those of the generated shape, as of dense
            if model_ids > model.experts:
                own = Mux(within < model.experts, within,
                          within - (model.experts - shape.experts))
            m.d.sync += [step.eq(step + 1), number.eq(before + own),
                         product.eq(number * shape.stride)]
            with m.If(step == 2):
                m.d.sync += locating.eq(0)
                m.d.comb += locates.en.eq(1)
                for c in range(channel_count):
                    with m.If(target[c]):
                        m.d.sync += [channels[c].in_page.eq(located), unissued[c].eq(1)]

        # Issue: choose a channel, then send its next burst.
        wanting = Signal(channel_count)
        chosen, chosen_valid = Signal(channel_count), Signal()
        m.d.comb += wanting.eq(valid & unissued & ~waiting_fail & ~failed)
        sent = Signal(channel_count)
        if g.has_ring:
            m.submodules.ring = ring = RingGuard(g, channel_count)
            m.d.comb += [
                ring.shape.eq(shape), ring.begin.eq(reader.begin), ring.into.eq(order.slot),
                ring.sent.eq(sent), ring.len.eq(reader.order.payload.len),
                *(mine.eq(passed) for mine, passed in zip(ring.passed, self.passed, strict=True)),
                *(ring.slots[c].eq(channels[c].slot) for c in range(channel_count))]
            wanting = wanting & ring.room
        pool, ahead = Signal(channel_count), Signal()
        limit = Signal(range((1 << len(reader.latency)) + ISSUE))
        m.d.sync += [limit.eq(reader.latency + ISSUE), ahead.eq(
            (reader.due <= limit)
            & (reader.due <= (g.prefetch_bursts - 1) * g.config.burst_beats))]
        m.d.comb += pool.eq(Mux((wanting & demanded).any(), wanting & demanded,
                                Mux(ahead, wanting, 0)))
        # The next burst of each channel; what it follows from is stable a cycle before a choice.
        order_of = reader.order.payload
        layout = data.StructLayout({"channel": order_of.channel.shape(), "slot": g.slot_bits,
                                    "beat": g.beat_bits, "len": 8, "left": g.beat_bits,
                                    "in_page": in_page})
        following, lasts = [], Signal(channel_count)
        for c in range(channel_count):
            m.submodules[f"legaliser_{c}"] = legaliser = Legaliser(g)
            burst = Signal(layout, name=f"burst_{c}")
            following.append(burst)
            m.d.comb += [
                legaliser.address.eq(channels[c].in_page), legaliser.beat.eq(channels[c].issued),
                legaliser.left.eq(channels[c].left), burst.channel.eq(c),
                burst.slot.eq(channels[c].slot), burst.in_page.eq(channels[c].in_page),
                burst.beat.eq(channels[c].issued), burst.left.eq(channels[c].left)]
            length = Signal(8, name=f"len_{c}")
            m.d.sync += [length.eq(legaliser.len), lasts[c].eq(legaliser.last)]
            m.d.comb += burst.len.eq(length)
        sending, sends = Signal(layout), Signal()
        m.d.comb += [
            sending.eq(one_of(chosen, following)),
            sends.eq(reader.order.valid & reader.order.ready),
            reader.order.valid.eq(chosen_valid & (
                chosen & wanting & (demanded | ahead.replicate(channel_count))).any()),
            *(order_of[name].eq(sending[name])
              for name in ("channel", "slot", "beat", "len")),
            blob_of.addr.eq(number_of(chosen)),
            order_of.address.eq(blob_of.data + (sending.beat << byte_bits)),
            reader.blob_beats.eq(shape.blob_beats)]
        if dense:
            m.d.comb += [reader.matrix.eq(matrix), reader.matrix_beats.eq(shape.matrix_beats)]
        for c in range(channel_count):
            with m.If(sends & chosen[c]):
                m.d.sync += [
                    channels[c].issued.eq(sending.beat + sending.len + 1),
                    channels[c].in_page.eq(sending.in_page + ((sending.len + 1) << byte_bits)),
                    channels[c].left.eq(sending.left - sending.len - 1)]
                with m.If(lasts[c]):
                    m.d.sync += unissued[c].eq(0)
                if g.has_ring:
                    m.d.comb += sent[c].eq(1)
        with m.If(sends):
            m.d.sync += chosen_valid.eq(0)
        with m.Else():  # a demand takes the place of a prefetch that waits
            m.d.sync += chosen_valid.eq(pool.any())
            for c in range(channel_count):
                m.d.sync += chosen[c].eq(pool[c] & ~(pool & older[c]).any())

        # Progress and reports.
        fails, failing = Signal(channel_count), Signal(channel_count)
        for c in range(channel_count):
            m.d.comb += [failing[c].eq(reader.failed.valid & (reader.failed.channel == c)
                                       & valid[c] & ~waiting_fail[c] & ~failed[c]),
                         fails[c].eq(failing[c] & ~cancelled[c])]
            with m.If(fails[c]):
                m.d.sync += [waiting_fail[c].eq(1), channels[c].tile.eq(reader.failed.tile),
                             channels[c].corrupt.eq(reader.failed.corrupt)]
        m.d.comb += [reader.hold.eq(accept), reader.drop.eq(cancelled | failing)]
        tile_beats = g.tile_beats
        blob_beats = shape.blob_beats[:g.beat_bits]
        of_blob = ((blob_beats + tile_beats - 1) >> (tile_beats.bit_length() - 1)
                   if g.config.integrity else 0)
        with m.If(accept):
            m.d.comb += [self.progress.valid.eq(1), self.progress.slot.eq(order.slot)]
        with m.Elif(reader.landed.valid):
            m.d.comb += [self.progress.valid.eq(1),
                         self.progress.slot.eq(reader.landed.slot),
                         self.progress.beats.eq(reader.landed.content)]
            for c in range(channel_count):
                with m.If(reader.landed.channel == c):
                    with m.If(reader.landed.first):
                        m.d.sync += first[c].eq(1)
                    with m.If(reader.landed.whole):
                        m.d.sync += done[c].eq(1)
        with m.Else():
            for c in range(channel_count):
                with m.If(waiting_fail[c] & ~waiting_fail[:c].any()):
                    m.d.comb += [self.progress.valid.eq(~cancelled[c]),
                                 self.progress.slot.eq(channels[c].slot),
                                 self.progress.beats.eq(shape.blob_beats)]
                    m.d.sync += [waiting_fail[c].eq(0), failed[c].eq(1)]

        reports = Signal(channel_count)
        m.d.comb += reports.eq(valid & ~cancelled & (first | done | failed))
        withdrawn = Signal()
        m.d.comb += withdrawn.eq(self.cancel.valid & (self.status.payload.slot == self.cancel.slot))
        with m.If(~self.status.valid | self.status.ready | withdrawn):
            m.d.sync += self.status.valid.eq(reports.any())
            for c in range(channel_count):
                with m.If(reports[c] & ~reports[:c].any()):
                    m.d.sync += [
                        self.status.payload.slot.eq(channels[c].slot), first[c].eq(0),
                        self.status.payload.tile.eq(channels[c].tile),
                        self.status.payload.corrupt.eq(channels[c].corrupt),
                        self.status.payload.kind.eq(Mux(
                            first[c], Status.FIRST, Mux(done[c], Status.DONE, Status.FAILED)))]
                    with m.If(~first[c]):
                        m.d.sync += valid[c].eq(0)

        # How long a demand waits for its first beat, if not for other demands.
        waited, taken = Signal(), Signal()
        since, of = Signal(WAIT_BITS), Signal.like(free)
        m.d.comb += [self.first_beat.valid.eq(taken & reader.came.valid
                                              & of.bit_select(reader.came.channel, 1)),
                     self.first_beat.cycles.eq(since)]
        with m.If(~waited):
            m.d.sync += [waited.eq(self.demand.valid & ~self.demanding), since.eq(0)]
        with m.Else():
            m.d.sync += since.eq(since + ~since.all())
        with m.If((~waited & ~self.demanding | waited & ~taken) & self.demand.valid
                  & self.demand.ready):
            m.d.sync += [taken.eq(1), of.eq(free)]
        with m.If(self.first_beat.valid | (taken & (cancelled & of).any())):
            m.d.sync += [waited.eq(0), taken.eq(0)]

        # Cancellation: the transfer's bursts are dropped, and its beats counted, a cycle later.
        was = Signal(channel_count)
        m.d.sync += [self.cancel_ack.eq(self.cancel.valid), was.eq(cancelled)]
        sums = data.StructLayout({"beats": g.beat_bits, "landed": g.landed_bits})
        spent = [Signal(sums, name=f"spent_{c}") for c in range(channel_count)]
        for c in range(channel_count):
            m.d.comb += [spent[c].beats.eq(channels[c].issued),
                         spent[c].landed.eq(reader.written[c])]
            with m.If(cancelled[c]):
                m.d.sync += [valid[c].eq(0), waiting_fail[c].eq(0)]
        lost = Signal.like(spent[0])
        m.d.comb += [lost.eq(one_of(was, spent)),
                     self.cancel_beats.eq(Mux(was.any(), lost.beats, blob_beats)),
                     self.cancel_landed.eq(
                         Mux(was.any(), lost.landed, blob_beats - of_blob))]
        m.d.comb += [self.active.eq(Cat(valid, reader.busy).any()),
                     self.demanding.eq((valid & demanded).any())]
        return m
