"""Weights of four bits, every one with every scale, against golden's."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.compute.unpack import FourBitWeights
from stmoe_golden.compute.four_bit import FourBits

ROWS, LANES = 2, 8


def found(fault: int = 0) -> np.ndarray:
    """int8 [scale, q]: two scales at a time, each with all weights."""
    dut, values = FourBitWeights(ROWS, LANES), []

    async def bench(ctx):
        for scale in range(1, 256, ROWS):
            for start in (-8, 0):
                codes = [(q & 15) ^ fault for q in range(start, start + LANES)] * ROWS
                ctx.set(dut.codes, sum(code << 4 * at for at, code in enumerate(codes)))
                ctx.set(dut.scales, sum(min(scale + row, 255) << 8 * row for row in range(ROWS)))
                for _ in range(dut.LATENCY):
                    await ctx.tick()
                values.append(ctx.get(dut.weights).to_bytes(ROWS * LANES, "little"))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    halves = np.frombuffer(b"".join(values), np.int8).reshape(-1, 2, ROWS, LANES)
    return halves.transpose(0, 2, 1, 3).reshape(-1, 2 * LANES)[:255]


@pytest.mark.parametrize("fault", [0, 1])
def test_weights_are_those_of_golden(fault):
    scales = np.arange(1, 256, dtype=np.uint8)[:, None]
    want = FourBits(np.tile(np.arange(-8, 8, dtype=np.int8), (255, 1)), scales).int8()
    assert np.array_equal(found(fault), want) == (not fault)
