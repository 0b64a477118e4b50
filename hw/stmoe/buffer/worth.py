"""Worth of a candidate: whether a transfer is expected to save more time than it costs."""

import math

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from .slack import SLACK_BITS, SLACK_ONE

__all__ = ["BUCKETS", "CandidateWorth"]

BUCKETS = 16  # of scores
PER_LOG_ODDS = 4
EVEN = 4  # bucket that begins at log-odds 0
ONE_BITS = 16  # of a measured probability of 1
FORGETS = 7  # by 2**-FORGETS per candidate
FINE, FOLLOWS = 4, 3  # of the average slack: bits behind the point, and rate


def prior(bucket: int) -> int:
    """Probability that the log-odds of a bucket's middle mean."""
    return round((1 << ONE_BITS) / (1 + math.exp(-(bucket - EVEN + 0.5) / PER_LOG_ODDS)))


def least(slack: int) -> int:
    """Least probability of 256 that pays where the slack is so much."""
    return min(255, 256 * SLACK_ONE // (SLACK_ONE + slack))


class CandidateWorth(wiring.Component):
    """Formats and rule: golden's ``stmoe_golden/buffer/worth.py``, bit for bit.

    ``pays`` is about ``score`` and ``expert`` of the cycle before and may be used while they hold
    still. ``decided`` and ``used`` take the cycle that they are given in, ``used`` one more, in
    which ``decided`` is not given. Reset: probabilities as they were, which a flush must follow.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    score, expert, shared: of the candidate. counted: scores are counts, not log-odds.
    floor: least probability, of 256, whatever the slack.
    pays: it is worth a transfer.
    rows_slack: least average slack with which a token's rows are moved. scarce: there is less; a
        cycle behind the average.
    decided: the candidate has been decided on. near: it is of the layer that comes next.
    of, used: expert that is routed, ``of`` already in the cycle before; it is being used.
    measured, slack: a layer's slack. forget: what was noted of candidates is.
    clear, position: the bucket of this number starts again; bits above are ignored.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = g = geometry
        super().__init__({
            "score": In(signed(g.score_bits)), "expert": In(g.expert_bits), "counted": In(1),
            "floor": In(8), "pays": Out(1), "decided": In(1), "near": In(1),
            "rows_slack": In(SLACK_BITS), "scarce": Out(1),
            "of": In(g.expert_bits), "used": In(1), "measured": In(1), "slack": In(SLACK_BITS),
            "forget": In(1), "clear": In(1), "position": In(range(BUCKETS))})

    def elaborate(self, platform):
        m = Module()
        g, model = self.geometry, self.geometry.config.model
        m.submodules.rates = rates = memory.Memory(
            shape=ONE_BITS, depth=BUCKETS, init=[prior(b) for b in range(BUCKETS)])
        m.submodules.notes = notes = memory.Memory(
            shape=data.StructLayout({"bucket": range(BUCKETS)}), depth=1 << g.expert_bits, init=[])
        rate, rate_write = rates.read_port(), rates.write_port()
        note, note_write = notes.read_port(), notes.write_port()
        noted = Signal(1 << g.expert_bits)

        # Bucket of the candidate.
        steps = Signal(signed(g.score_bits + 1))
        bucket = Signal(range(BUCKETS))
        shift = g.config.linear.fraction - (PER_LOG_ODDS - 1).bit_length()
        m.d.comb += [
            steps.eq(Mux(self.counted, self.score, (self.score >> shift) + EVEN)),
            bucket.eq(Mux(steps < 0, 0, Mux(steps > BUCKETS - 1, BUCKETS - 1, steps)))]

        # What pays.
        average = Signal(SLACK_BITS + FINE, init=((1 << SLACK_BITS) - 1) << FINE)
        by_slack, needed = Signal(8), Signal(8)  # by a layer that was measured a cycle before
        m.d.comb += [
            by_slack.eq(Array(Const(least(s), 8) for s in range(1 << SLACK_BITS))[average >> FINE]),
            self.pays.eq((self.expert >= model.experts)
                         | (rate.data >> (ONE_BITS - 8) >= needed))]
        # A sign, for lint objects to a comparison with a constant 0.
        m.d.sync += [needed.eq(Mux(by_slack > self.floor, by_slack, self.floor)),
                     self.scarce.eq(((average >> FINE) - self.rows_slack)[-1])]
        with m.If(self.clear):
            m.d.sync += average.eq(average.init)
        with m.Elif(self.measured):
            m.d.sync += average.eq(average + (((self.slack << FINE) - average) >> FOLLOWS))

        # What came of it: every candidate counts as not used until it is.
        crediting, credited = Signal(), Signal.like(bucket)
        m.d.comb += [
            note.addr.eq(self.of), note_write.addr.eq(self.expert),
            note_write.data.bucket.eq(bucket), rate.addr.eq(bucket), rate_write.addr.eq(bucket),
            rate_write.data.eq(rate.data - (rate.data >> FORGETS))]
        noting, noted_of = Signal(), Signal()  # noted_of: of the cycle before, as it is now
        m.d.comb += [noting.eq(self.decided & self.near & (self.expert < model.experts)),
                     rate_write.en.eq(noting), note_write.en.eq(noting)]
        with m.If(noting):
            m.d.sync += noted.bit_select(self.expert, 1).eq(1)
        m.d.sync += [crediting.eq(0), noted_of.eq(~self.forget & (
            noted.bit_select(self.of, 1) | (noting & (self.expert == self.of))))]
        with m.If(self.used & noted_of):
            m.d.comb += rate.addr.eq(note.data.bucket)
            m.d.sync += [crediting.eq(1), credited.eq(note.data.bucket)]
        with m.If(crediting):
            more = Signal(ONE_BITS + 1)
            m.d.comb += [more.eq(rate.data + (1 << (ONE_BITS - FORGETS))),
                         rate_write.en.eq(1), rate_write.addr.eq(credited),
                         rate_write.data.eq(more | more[-1].replicate(ONE_BITS))]
        with m.If(self.forget):
            m.d.sync += noted.eq(0)
        with m.If(self.clear):
            m.d.comb += [rate_write.en.eq(1), rate_write.addr.eq(self.position),
                         rate_write.data.eq(Array(Const(prior(b), ONE_BITS)
                                                  for b in range(BUCKETS))[self.position])]
        return m
