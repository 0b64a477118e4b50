"""The bank of counters, in every cycle beside plain numbers."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from stmoe.bus import counter_bank
from stmoe.bus.counter_bank import CounterBank, low_bits
from stmoe.bus.counters import counter_widths
from stmoe.config import PRESETS, Geometry
from support.counters import set_counters

SMALL = {"a": 1, "b": 2, "c": 4}  # of words of 8 bits: they carry and come round all the time
MANY = {f"{step}_{at}": step for at in range(10) for step in (1, 2)}


class Traffic:
    """What a cycle brings, drawn by probability.

    ``busy``: an increment is as large as it can be, else it is anything. ``read``, ``freeze``,
    ``clear``, ``reset``: that a read is asked for, counters are frozen or let go, cleared, and all
    is reset.
    """

    def __init__(self, busy=0.5, read=0.5, freeze=0.0, clear=0.0, reset=0.0):
        self.busy, self.read, self.freeze = busy, read, freeze
        self.clear, self.reset = clear, reset


def play(steps, width, traffic, cycles, seed=1, start=None):
    """Run a bank beside plain numbers; returns reads. ``start``: values to begin with."""
    dut = CounterBank(steps, width)
    names, rng, modulus = list(steps), random.Random(seed), 1 << 2 * width
    reset = Signal()
    sim = Simulator(ResetInserter(reset)(dut))
    sim.add_clock(1e-9)
    reads = []

    async def bench(ctx):
        value, pending, clear = dict.fromkeys(names, 0), dict.fromkeys(names, 0), 1
        history, frozen, asked, high, after_reset = [], 0, None, None, False
        if start:
            await set_counters(ctx, dut, start)
            value, clear = dict(start), 0
        for cycle in range(cycles):
            frozen ^= rng.random() < traffic.freeze
            clearing = rng.random() < traffic.clear
            resetting = rng.random() < traffic.reset
            ctx.set(reset, resetting)
            given = {name: (1 << step) - 1 if rng.random() < traffic.busy
                     else rng.getrandbits(step) for name, step in steps.items()}
            if after_reset:  # nor is anything asked for
                asked = high = None
            elif asked is None and rng.random() < traffic.read:
                asked = rng.randrange(len(names))
            for name in names:
                ctx.set(getattr(dut, f"inc_{name}"), given[name])
            ctx.set(dut.freeze, frozen)
            ctx.set(dut.clear, clearing)
            ctx.set(dut.ask, asked is not None)
            ctx.set(dut.number, asked or 0)
            history.append(dict(value))
            where = f"seed {seed}, cycle {cycle}"
            if high is not None:
                assert ctx.get(dut.word) == high, f"{where}: high word"
                high = None
            if ctx.get(dut.done):
                name, shown = names[asked], history[-4][names[asked]]
                assert ctx.get(dut.word) == shown & (1 << width) - 1, f"{where}: low word of {name}"
                reads.append((name, shown))
                high, asked = shown >> width, None
            await ctx.tick()
            for name in names:
                value[name] = 0 if clear else (value[name] + pending[name]) % modulus
            pending = {name: 0 if frozen else given[name] for name in names}
            clear, after_reset = clearing or resetting, resetting

    sim.add_testbench(bench)
    sim.run()
    return reads


@pytest.mark.parametrize("traffic", [
    Traffic(), Traffic(busy=1), Traffic(freeze=0.1), Traffic(read=1, clear=0.005),
    Traffic(read=1, clear=0.1, freeze=0.05), Traffic(clear=0.02, freeze=0.3, read=1),
    Traffic(read=1, clear=0.005, reset=0.01)],
    ids=["any", "most", "freeze", "clear", "all", "frozen and cleared", "reset"])
@pytest.mark.parametrize("steps", [SMALL, {"a": 1, "b": 3}, MANY], ids=["3", "2", "20"])
def test_a_read_shows_what_a_plain_counter_has(steps, traffic):
    reads = play(steps, 8, traffic, 800 + 80 * len(steps))
    assert {name for name, _ in reads} == set(steps)
    assert max(shown for _, shown in reads) > 255 or traffic.clear


def test_counters_of_64_bits_carry_and_come_round():
    steps = {"a": 1, "b": 8, "c": 24, "d": 1, "e": 24}
    reads = play(steps, 32, Traffic(busy=1, read=1), 600, start={
        "a": (1 << 32) - 300, "b": (7 << 32) - 300 * 255, "c": (1 << 64) - (300 << 24),
        "d": (1 << 64) - 300, "e": (1 << 40) - (300 << 24)})
    for name, edge in (("a", 1 << 32), ("b", 7 << 32), ("e", 1 << 40)):
        shown = [value for read, value in reads if read == name]
        assert min(shown) < edge <= max(shown), name
    for name in "cd":
        shown = [value for read, value in reads if read == name]
        assert max(shown) >> 63 and not shown[-1] >> 63, name


def test_low_bits_do_not_come_round_between_visits():
    widths = counter_widths(Geometry(PRESETS["edge"]))
    for name, count in low_bits(widths).items():
        most = 2 * len(widths) * ((1 << widths[name]) - 1)
        assert most < 1 << count <= 2 * most, name
    with pytest.raises(ValueError, match="counter b: 9 low bits, at most 8"):
        low_bits({"a": 1, "b": 7}, 8)
    with pytest.raises(ValueError, match="2 counters or more, not 1"):
        low_bits({"a": 1})


def test_a_bit_less_is_noticed(monkeypatch):
    monkeypatch.setattr(counter_bank, "low_bits", lambda *about: {
        name: count - 1 for name, count in low_bits(*about).items()})
    with pytest.raises(AssertionError, match="seed 1, cycle"):
        play(SMALL, 8, Traffic(busy=1), 200)
