"""Requantiser against fractions, at the edges of every width and at random."""

import random
from fractions import Fraction

import pytest
from amaranth.sim import Simulator

from stmoe.compute.requantise import Requantiser

EXTREMES = (-2**31, -2**31 + 1, -65537, -65536, -32769, -32768, -3, -1, 0, 1, 2, 3, 32767, 65535,
            65536, 2**31 - 1)


def expected(acc, mult, shift, bits):
    """Python's round() of a fraction takes halves to the even number."""
    value = round(Fraction(acc * mult, 1 << shift))
    return max(-1 << bits - 1, min((1 << bits - 1) - 1, value))


def operands(seed):
    rng = random.Random(seed)
    for acc in EXTREMES:
        for shift in (0, 1, 7, 8, 9, 15, 16, 31, 47, 48, 49, 63):
            yield acc, rng.choice((1, 2, 3, 65535)), shift, rng.randrange(2)
    for _ in range(1500):
        acc = rng.randrange(-2**31, 2**31) >> rng.randrange(32)
        shift = rng.randrange(64)
        if rng.randrange(2):  # an exact half, or just beside one
            yield ((rng.randrange(-99, 99) << min(shift, 20)) + (1 << min(shift, 20)) // 2
                   + rng.randrange(-1, 2), 1 << max(0, shift - 20), shift % 36, rng.randrange(2))
        else:
            yield acc, rng.randrange(65536), shift, rng.randrange(2)


def exercise(dut, seed, flip=0):
    async def bench(ctx):
        waiting = []
        for acc, mult, shift, clip in operands(seed):
            mult &= 65535
            ctx.set(dut.acc, acc ^ flip)
            ctx.set(dut.mult, mult)
            ctx.set(dut.shift, shift)
            ctx.set(dut.clip, clip)
            bits = dut.narrow if clip and dut.narrow else dut.bits
            waiting.append((acc, mult, shift, bits))
            await ctx.tick()
            if len(waiting) == Requantiser.LATENCY:
                given = waiting.pop(0)
                assert ctx.get(dut.result) == expected(*given), f"seed {seed}: {given}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("bits, narrow", [(16, 10), (16, 0), (8, 0)])
def test_rounds_half_to_even_and_saturates(bits, narrow):
    exercise(Requantiser(bits, narrow), seed=11)


def test_a_wrong_operand_is_noticed():
    with pytest.raises(AssertionError, match="seed 11"):
        exercise(Requantiser(16, 0), seed=11, flip=1)
