"""Wide counters whose sums are in a RAM."""

from collections.abc import Mapping
from math import gcd

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..one_of import one_of

__all__ = ["CounterBank", "low_bits"]

FOLLOWING = 11
"""Visits from a counter's to the next one's: who reads one after the other just meets them."""


def low_bits(steps: Mapping[str, int], width: int = 32) -> dict[str, int]:
    """Low bits of each counter of a bank, so that they do not come round between two visits.

    A counter is visited once in twice as many cycles as there are counters; the first visit after
    a clear comes no later. ValueError if a counter takes more than ``width``, or there is but one.
    """
    if len(steps) < 2:
        raise ValueError(f"a bank has 2 counters or more, not {len(steps)}")
    bits = {name: (2 * len(steps) * ((1 << step) - 1)).bit_length() for name, step in steps.items()}
    for name, count in bits.items():
        if count > width:
            raise ValueError(f"counter {name}: {count} low bits, at most {width}")
    return bits


class CounterBank(wiring.Component):
    """Counters of two words: the low bits of each in flip-flops, the whole in a RAM.

    The low bits count for themselves and come round. A visit adds to the sum in the RAM by how much
    they are ahead of its own low bits: all that was counted since, as the sum is never older than
    they take to come round. So a visit changes nothing that counts. Visits follow one another, of
    two cycles each, low word and high word, whatever is read; a read waits for its counter's.

    An increment counts two cycles after it is given, unless ``freeze`` is 1 when it is given. Of
    those given up to the cycle of ``clear`` nothing is left; every visit of the round that follows
    takes the sum in the RAM, which needs no initial contents, for 0. Reset: as after a clear;
    nothing is to be asked for in it, nor in the cycle after.

    A read that is asked for in cycle t shows its counter as it is in a cycle from t to t + 2
    ``counters`` - 1, three cycles before ``done``. Throughput: a read per visit.

    Parameters
    ----------
    steps: bits of the increments, name -> bits, in order of the counters' numbers; two or more.
    width: bits of a word, so half of a counter's; :func:`low_bits` have to fit.

    Members
    -------
    inc_NAME: unsigned increments.
    freeze: increments do not count. clear: counters are 0.
    ask, number: a read of a counter, held until ``done``.
    done: ``word`` is the low word, in the next cycle the high word.

    Attributes
    ----------
    counts: the low bits of each counter, name -> signal. ram: the sums, after elaboration;
        a word's address is its counter's number, and above it 1 for the high word.
    here, select: whose turn it is, as a number and as a bit. high: of its high word. fresh: visits
        to come for which the RAM's sums are 0.
    """

    def __init__(self, steps: Mapping[str, int], width: int = 32):
        self.width, self.number_bits = width, (len(steps) - 1).bit_length()
        self.counts = {name: Signal(count, name=f"count_{name}", reset_less=True)
                       for name, count in low_bits(steps, width).items()}
        self.high, self.select = Signal(), Signal(len(steps), init=1)
        self.here, self.fresh = Signal(self.number_bits), Signal(range(len(steps) + 1))
        super().__init__({
            **{f"inc_{name}": In(step) for name, step in steps.items()},
            "freeze": In(1), "clear": In(1), "ask": In(1), "number": In(self.number_bits),
            "done": Out(1), "word": Out(width)})

    def elaborate(self, platform):
        m = Module()
        counts, width = list(self.counts.values()), self.width
        number, deep = len(counts), max(len(count) for count in counts)

        clear = Signal(init=1)  # one load for all of them to hang on; it resets them too
        m.d.sync += clear.eq(self.clear)
        for name, count in self.counts.items():
            increment = getattr(self, f"inc_{name}")
            pending = Signal.like(increment, name=f"pending_{name}", reset_less=True)
            m.d.sync += [pending.eq(Mux(self.freeze, 0, increment)),
                         count.eq(Mux(clear, 0, count + pending))]

        # Whose turn it is, first its low word, then its high word.
        ahead = next(at for at in range(min(FOLLOWING, number - 1), number)
                     if gcd(at, number) == 1)
        stride = pow(ahead, -1, number)
        high, select, here, fresh = self.high, self.select, self.here, self.fresh
        past, written = Signal.like(here), Signal.like(here)
        m.d.sync += high.eq(~high)
        with m.If(high):
            m.d.sync += [select.eq(select.rotate_left(stride)), past.eq(here), here.eq(
                Mux(here >= number - stride, here - (number - stride), here + stride))]
        with m.If(clear):
            m.d.sync += fresh.eq(number)
        with m.Elif(~high & (fresh != 0)):
            m.d.sync += fresh.eq(fresh - 1)

        m.submodules.ram = self.ram = Memory(
            shape=width, depth=2 << self.number_bits, init=[],
            attrs={"ram_style": "block", "no_rw_check": 1})
        read, write = self.ram.read_port(), self.ram.write_port()
        m.d.comb += read.addr.eq(Cat(here, high))

        # What is there of it: its low bits, which of them it has, and a cycle later the sum.
        low, empty, mine = Signal(deep), Signal(), Signal()
        sizes = sorted({len(count) for count in counts})
        has = {size: Signal(name=f"has_{size}") for size in sizes[1:]}
        word, base, add = (Signal(width, name=name, reset_less=True) for name in (
            "word", "base", "add"))
        m.d.sync += [word.eq(Mux(empty, 0, read.data)), base.eq(word)]
        with m.If(~high):
            m.d.sync += [low.eq(one_of(select, counts)), empty.eq(fresh != 0),
                         mine.eq(self.ask & (self.number == here)), written.eq(past)]
            m.d.sync += [reach.eq(Cat(
                select[at] for at, count in enumerate(counts) if len(count) >= size).any())
                for size, reach in has.items()]

        # What the sum lacks, to its low word; what that carries, to its high word.
        mask = Cat(has[next(size for size in sizes if size > bit)] if bit >= sizes[0] else C(1, 1)
                   for bit in range(deep))
        total = Signal(width + 1)
        m.d.comb += [total.eq(base + add), write.addr.eq(Cat(written, ~high)),
                     write.data.eq(total), write.en.eq(1), self.word.eq(total)]
        m.d.sync += add.eq(Mux(high, total[width], (low - word)[:deep] & mask))

        answer = Signal()
        with m.If(~high):
            m.d.sync += answer.eq(mine)
        m.d.comb += self.done.eq(answer & high)
        return m
