"""Link slack: how long demands leave the link alone, against the harm a wrong prefetch can do."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SLACK_BITS", "SLACK_ONE", "LinkSlack"]

SLACK_BITS = 6
SLACK_ONE = 16  # of the slack, as long as a drain
DRAIN_BITS = 16


class LinkSlack(wiring.Component):
    """Counts the time without demands in units of a drain.

    A *drain* is the time that ``beats`` beats take on the link as it is: what may be on its way for
    a prefetch, and has to arrive before a demand that comes then. It is measured again whenever so
    many beats have come, in cycles of ``active``, up to 65,535. ``slack`` is the time with
    ``quiet`` since the last ``take``, in sixteenths of a drain, up to 63. Reset: a drain of one
    cycle per beat, no slack.

    Parameters
    ----------
    beats: of a drain, at least 1.

    Members
    -------
    beat: a beat has come. active: the link is in use. quiet: no demand wants it.
    take: ``slack`` has been read and begins from 0.
    slack: as said.
    """

    def __init__(self, beats: int):
        self.beats = beats
        super().__init__({"beat": In(1), "active": In(1), "quiet": In(1), "take": In(1),
                          "slack": Out(SLACK_BITS)})

    def elaborate(self, platform):
        m = Module()
        last = (1 << DRAIN_BITS) - 1
        count, cycles = Signal(range(self.beats)), Signal(DRAIN_BITS)
        unit = Signal(range(last // SLACK_ONE + 1), init=max(1, self.beats // SLACK_ONE))
        phase = Signal.like(unit)
        # Whether the link is in use is known late: both answers are there before.
        longer = Signal(DRAIN_BITS)
        m.d.comb += longer.eq(Mux(cycles == last, last, cycles + 1))

        def units(passed):
            return Mux(passed < SLACK_ONE, 1, passed // SLACK_ONE)

        m.d.sync += cycles.eq(Mux(self.active, longer, cycles))
        with m.If(self.beat):
            m.d.sync += count.eq(count + 1)
            with m.If(count == self.beats - 1):
                m.d.sync += [count.eq(0), cycles.eq(0),
                             unit.eq(Mux(self.active, units(longer), units(cycles)))]
        with m.If(self.quiet):
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase >= unit - 1):
                m.d.sync += phase.eq(0)
                with m.If(~self.slack.all()):
                    m.d.sync += self.slack.eq(self.slack + 1)
        with m.If(self.take):
            m.d.sync += [self.slack.eq(0), phase.eq(0)]
        return m
