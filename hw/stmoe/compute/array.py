"""The array of processing elements: hands out experts, merges their sums."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import BufferReadSignature
from ..sharing import share
from .pe import ACCUMULATOR_BITS, ProcessingElement
from .requantise import saturated
from .split import GroupSplitter

__all__ = ["PeArray"]

GATE_FRACTION = 15  # bits


class PeArray(wiring.Component):
    """Computes ``saturate16(round(sum of gate * expert(x)))`` of one layer at a time.

    Experts go to the first idle PE, else to the first one near the end of its expert; where groups
    are split, so do their parts, of which several may run at once: of PEs that would read different
    words of a slot, that of the earliest word does, the same word is read by all. Activations
    may come before or after ``start`` and are kept for one layer; ``count`` experts make the layer,
    whose result follows as ``out_groups`` beats. Back-pressure is honoured everywhere. Reset: idle.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    x: activation words, ``lanes`` bytes each, lowest channel first.
    start, count: pulse, a layer of ``count`` experts begins. Not before the last layer's last beat.
    last_token, member: where a layer may have many tokens: its last token's number, known before
        the first of ``x``, and stable; and see :class:`ProcessingElement`. Their activations follow
        one another, and so do their results.
    work: experts, in any order. release: slots that will not be read any more.
    shape: run-time shape. read: the PEs' ports into the expert buffer. passed: how far each PE has
        read its expert, a cycle later; only where experts stream through.
    result: ``rows`` int16 outputs per beat, ``last`` on the layer's last.
    active: a PE reads a word, or would but for activations or hidden values on their way, or for
        another PE.
    merging: every word has been read and the result is not out.
    mac_words, side_reads: weight words and parameter rows read in this cycle.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        pes = g.config.pes
        super().__init__({
            "x": In(stream.Signature(8 * g.config.lanes)), "start": In(1), "count": In(8),
            "work": In(stream.Signature(interfaces.work(g))),
            "release": Out(stream.Signature(data.StructLayout({"slot": unsigned(g.slot_bits)}))),
            "shape": In(interfaces.shape_layout(g)),
            "read": Out(BufferReadSignature(g)).array(pes),
            "result": Out(stream.Signature(data.StructLayout(
                {"data": 16 * g.config.rows, "last": 1}))),
            "active": Out(1), "merging": Out(1),
            "mac_words": Out(range(pes + 1)), "side_reads": Out(range(pes + 1))} | (
                {} if not g.token_bits else {
                    "last_token": In(g.token_bits), "member": In(interfaces.member(g))}) | (
                {"passed": Out(interfaces.passed(g)).array(pes)} if g.has_ring else {}))

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        pes = [share(m, f"pe_{index}", platform, ProcessingElement, g)
               for index in range(g.config.pes)]
        for index, pe in enumerate(pes):
            wiring.connect(m, pe.read, wiring.flipped(self.read[index]))
            if g.has_ring:
                m.d.sync += self.passed[index].eq(pe.passed)

        work, release = self.work, self.release
        if g.doublings:
            m.submodules.split = split = GroupSplitter(g)
            work, release = split.part, split.release
            wiring.connect(m, wiring.flipped(self.work), split.work)
            wiring.connect(m, split.released, wiring.flipped(self.release))
            m.d.comb += [split.last_token.eq(self.last_token),
                         split.whole.eq(self.shape.ring if g.has_ring else 0)]
            self._share_slots(m, pes)

        # Activations.
        received = Signal(16)
        activations = received
        if g.token_bits:
            arriving, complete = Signal(g.token_bits), Signal()
            activations = Mux(complete, self.shape.in_words,
                              Mux(arriving == self.last_token, received, 0))
            m.d.comb += self.x.ready.eq(~complete)
            for pe in pes:
                m.d.comb += [pe.x_token.eq(arriving), pe.member.eq(self.member)]
        else:
            m.d.comb += self.x.ready.eq(received != self.shape.in_words)
        for pe in pes:
            m.d.comb += [
                pe.x.eq(self.x.payload), pe.x_index.eq(received), pe.activations.eq(activations),
                pe.x_valid.eq(self.x.valid & self.x.ready), pe.start.eq(self.start),
                pe.shape.eq(self.shape), pe.work.payload.eq(work.payload)]
        with m.If(self.x.valid & self.x.ready):
            m.d.sync += received.eq(received + 1)
            if g.token_bits:
                with m.If(received == self.shape.in_words - 1):
                    m.d.sync += [received.eq(0), arriving.eq(arriving + 1),
                                 complete.eq(arriving == self.last_token)]

        # Experts out, slots back.
        idle = Cat(pe.idle for pe in pes)
        ready = Cat(pe.work.ready for pe in pes)
        able = Signal(len(pes))
        m.d.comb += [able.eq(Mux(idle.any(), idle, ready)), work.ready.eq(able.any())]
        for index, pe in enumerate(pes):
            m.d.comb += pe.work.valid.eq(
                work.valid & able[index] & ~able[:index].any())
        number = range(max(2, len(pes)))
        chosen, held, stalled = Signal(number), Signal(number), Signal()
        for index, pe in reversed(list(enumerate(pes))):
            with m.If(pe.release.valid):
                m.d.comb += [release.valid.eq(1), chosen.eq(index)]
        with m.If(stalled):  # what is offered stays
            m.d.comb += chosen.eq(held)
        for index, pe in enumerate(pes):
            with m.If(chosen == index):
                m.d.comb += [release.payload.eq(pe.release.payload),
                             pe.release.ready.eq(release.ready)]
        m.d.sync += [held.eq(chosen), stalled.eq(release.valid & ~release.ready)]

        # The layer's progress, in experts; in parts, of those that are handed out.
        bits = 9 if g.doublings else 8
        running, unread, unfinished = Signal(), Signal(bits), Signal(bits)
        ended = sum(pe.release.valid & pe.release.ready for pe in pes)
        done = sum(pe.finished for pe in pes)
        with m.If(self.start):
            m.d.sync += [running.eq(1), unread.eq(self.count), unfinished.eq(self.count)]
        with m.Else():
            reads, ends = ((unread + split.extra, unfinished + split.extra) if g.doublings
                           else (unread, unfinished))
            m.d.sync += [unread.eq(reads - ended), unfinished.eq(ends - done)]
        m.d.comb += [
            self.mac_words.eq(sum(pe.issued for pe in pes)),
            self.side_reads.eq(sum(pe.side_read for pe in pes)),
            self.active.eq(Cat(~pe.idle & ~pe.waiting for pe in pes).any()),
            self.merging.eq(running & idle.all() & (unfinished <= len(pes)) & (unread == 0))]

        self._merge(m, pes, running & ~self.start & (unfinished == 0) & (unread == 0))
        with m.If(self.result.valid & self.result.ready & self.result.payload.last):
            m.d.sync += [running.eq(0), received.eq(0)]
            if g.token_bits:
                m.d.sync += [arriving.eq(0), complete.eq(0)]
        return m

    def _share_slots(self, m, pes):
        """A slot is read at one word at a time, the earliest: who is ahead waits."""
        for pe in pes:
            m.d.comb += pe.denied.eq(Cat(
                other.asks & (other.read.slot == pe.read.slot) & (other.read.word < pe.read.word)
                for other in pes if other is not pe).any())

    def _merge(self, m, pes, ready):
        """Sums of all PEs, group by group, through a pipeline that halts as a whole."""
        g = self.geometry
        rows = g.config.rows
        index = Signal(16)
        last = last_index = index == self.shape.out_groups - 1
        if g.token_bits:
            token = Signal(g.token_bits)
            last = last_index & (token == self.last_token)
        room = Signal()
        m.d.comb += room.eq(~self.result.valid | self.result.ready)
        read, added, over = Signal(), Signal(), Signal()
        last_read, last_added = Signal(), Signal()
        reading = Signal()
        m.d.comb += reading.eq(ready & ~over)
        for pe in pes:
            m.d.comb += [pe.sum_index.eq(index), pe.sum_read.eq(room)]
            if g.token_bits:
                m.d.comb += pe.sum_token.eq(token)
        with m.If(room):
            m.d.sync += [read.eq(reading), added.eq(read), last_added.eq(last_read),
                         last_read.eq(last),
                         self.result.valid.eq(added), self.result.payload.last.eq(last_added)]
            with m.If(reading):
                m.d.sync += index.eq(index + 1)
                if g.token_bits:
                    with m.If(last_index):
                        m.d.sync += [index.eq(0), token.eq(token + 1)]
                with m.If(last):
                    m.d.sync += over.eq(1)
        with m.If(self.start):
            m.d.sync += [index.eq(0), over.eq(0)]
            if g.token_bits:
                m.d.sync += token.eq(0)

        for row in range(rows):
            total = Signal(signed(ACCUMULATOR_BITS), name=f"total_{row}")
            kept = total[GATE_FRACTION:].as_signed()
            half = 1 << (GATE_FRACTION - 1)
            rest = total[:GATE_FRACTION]
            rounded = Signal(signed(ACCUMULATOR_BITS - GATE_FRACTION + 1), name=f"rounded_{row}")
            m.d.comb += rounded.eq(kept + ((rest > half) | ((rest == half) & kept[0])))
            value = saturated(m, rounded, 16, f"value_{row}")
            with m.If(room):
                m.d.sync += [
                    total.eq(sum(pe.sums.word_select(row, ACCUMULATOR_BITS).as_signed()
                                 for pe in pes)),
                    self.result.payload.data.word_select(row, 16).eq(value)]
