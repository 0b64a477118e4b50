"""Worth of a candidate: it is fetched ahead if that is expected to save more than it costs.

A right prefetch saves the time that demands leave the link alone, a wrong one costs the time until
what is on its way for it has drained. With p the probability that the candidate is used,

    p * slack >= (1 - p) * drain, and p >= floor,

the latter the price of bytes that save little. Exact formats, from which hardware is built:

p
    is measured, of all candidates of the layer that comes next, by what score they have. Scores
    fall into 16 buckets: log-odds from -1 on in steps of 1/4, or counts from 0 on in steps of 1.
    Per bucket a rate of 16 bits that starts, after a flush, at the probability that the log-odds of
    the bucket's middle mean. A candidate that is decided on - ordered, found resident, or skipped -
    takes rate >> 7 from it, and adds 2**9 when its layer is routed and uses it, up to 2**16 - 1.
    Candidates of layers beyond are judged by the same rates and do not change them. Shared experts
    always pay and change nothing.
slack
    of a layer, between its routing and that of the layer before, in sixteenths of a drain, 0 to 63:
    the time in which no demand was in the DMA's hands or waited for it. It is measured. The average
    has 4 bits behind the point, starts at 63 after a flush, and moves by (slack - average) >> 3.
least
    256 * 16 // (16 + average), at most 255: the least rate >> 8 that pays.

Rows by token identity take the link's time as well. Those of a token that begins while average >> 4
is less than ``rows_slack`` are *withheld*: it is to the predictor a token without identity.
"""

import math

__all__ = ["FLOOR", "SLACK_MAX", "Worth"]

FLOOR = 0
SLACK_MAX = 63
BUCKETS, EVEN, PER_LOG_ODDS = 16, 4, 4
ONE, FORGETS = 1 << 16, 7
FINE, FOLLOWS, SLACK_ONE = 4, 3, 16


class Worth:
    """Measures how often candidates are used and how much slack there is, and judges by both.

    Parameters
    ----------
    experts: of a layer, without shared ones, whose ids follow.
    fraction: bits behind the point of a score in log-odds; None: scores are counts.
    floor: least p, of 256. rows_slack: least slack with which rows are not withheld.
    """

    def __init__(self, experts: int, fraction: int | None, floor: int = FLOOR, rows_slack: int = 0):
        if not 0 <= floor <= 255:
            raise ValueError(f"floor is {floor}, not 0 to 255")
        self.experts, self.fraction, self.floor = experts, fraction, floor
        self.rows_slack = rows_slack
        middles = [(bucket - EVEN + 0.5) / PER_LOG_ODDS for bucket in range(BUCKETS)]
        self.rate = [round(ONE / (1 + math.exp(-middle))) for middle in middles]
        self.average = SLACK_MAX << FINE
        self.noted: dict[int, int] = {}

    def bucket(self, score: int) -> int:
        """Of a score."""
        if self.fraction is not None:
            score = math.floor(score * PER_LOG_ODDS / 2**self.fraction) + EVEN
        return min(max(score, 0), BUCKETS - 1)

    def least(self) -> int:
        """Least p, of 256, that pays now."""
        return max(self.floor, min(255, 256 * SLACK_ONE // (SLACK_ONE + (self.average >> FINE))))

    def withholds(self) -> bool:
        """Whether rows of a token that begins now are withheld."""
        return self.average >> FINE < self.rows_slack

    def pays(self, expert: int, score: int) -> bool:
        """Whether a candidate is worth a transfer."""
        return expert >= self.experts or self.rate[self.bucket(score)] >> 8 >= self.least()

    def decided(self, expert: int, score: int) -> None:
        """A candidate of the layer that comes next has been decided on."""
        if expert < self.experts:
            bucket = self.noted[expert] = self.bucket(score)
            self.rate[bucket] -= self.rate[bucket] >> FORGETS

    def routed(self, experts: list[int], slack: int, *, expected: bool) -> None:
        """A layer was routed, that which was ``expected`` next or another one."""
        if expected:
            for expert in experts:
                if expert in self.noted:
                    bucket = self.noted[expert]
                    self.rate[bucket] = min(self.rate[bucket] + (ONE >> FORGETS), ONE - 1)
        self.forget()
        self.average += ((slack << FINE) - self.average) >> FOLLOWS

    def forget(self) -> None:
        """What was noted of candidates counts no more."""
        self.noted.clear()
