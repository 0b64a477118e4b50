#!/usr/bin/env python3
"""How much of an SDRAM's word per clock its controller uses, by kind of traffic.

python benchmarks/sdram.py [--mhz 37.5] [--bursts 200]

In Amaranth's simulator, one manager that always is ready, beats of 64 bits, no part at the pins:
the controller's commands do not depend on what it reads.
"""

import argparse
import dataclasses
import random

from amaranth.sim import Simulator

from stmoe.boards.memory_port import MemorySignature
from stmoe.boards.sdram.controller import SdramController
from stmoe.boards.sdram.part import SDRAM_256M

PORT = MemorySignature(addr_bits=25, data_bits=64, id_bits=3)
WORDS = 4  # of a beat


def traffic(kind: str, bursts: int, beats: int) -> list[tuple[int, bool]]:
    """Address and direction of each burst."""
    rng = random.Random(1)
    size = 8 * beats
    if kind == "random reads":
        return [(rng.randrange(SDRAM_256M.size // size) * size, False) for _ in range(bursts)]
    return [(i * size, kind == "writes" or (kind == "writes and reads" and i % 2 == 1))
            for i in range(bursts)]


def measure(clock_hz: int, order: list[tuple[int, bool]], beats: int) -> float:
    """Words per cycle, of all from the first request to the last answer."""
    dut = SdramController(dataclasses.replace(SDRAM_256M, power_up=0), PORT, clock_hz)
    sim = Simulator(dut)
    sim.add_clock(1 / clock_hz)
    axi, found, cycle = dut.axi, [], 0

    async def count(ctx):
        nonlocal cycle
        async for _ in ctx.tick():
            cycle += 1

    async def requests(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        found.append(cycle)
        for address, writes in order:
            channel = axi.aw if writes else axi.ar
            ctx.set(channel.payload, {"addr": address, "id": 0, "len": beats - 1, "size": 3,
                                      "burst": 1})
            ctx.set(channel.valid, 1)
            while True:
                _, _, taken = await ctx.tick().sample(channel.ready)
                if taken:
                    break
            ctx.set(channel.valid, 0)

    async def answers(ctx):
        ctx.set(axi.w.valid, 1)
        ctx.set(axi.r.ready, 1)
        ctx.set(axi.b.ready, 1)
        left = len(order)
        while left:
            _, _, r, last, b = await ctx.tick().sample(axi.r.valid, axi.r.payload.last,
                                                       axi.b.valid)
            left -= (r & last) + b
        found.append(cycle)
    sim.add_testbench(count, background=True)
    sim.add_testbench(requests)
    sim.add_testbench(answers)
    sim.run()
    return len(order) * beats * WORDS / (found[1] - found[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mhz", type=float, default=37.5)
    parser.add_argument("--bursts", type=int, default=200)
    given = parser.parse_args()
    clock_hz = round(given.mhz * 1e6)
    t = SDRAM_256M.cycles(clock_hz)
    print(f"{given.mhz:g} MHz; refresh takes {t.rp + t.rfc + t.rcd} cycles or more of {t.refresh}")
    print("| traffic | beats of a burst | words per cycle |\n|---|---|---|")
    for kind in ("reads", "writes", "writes and reads", "random reads"):
        for beats in (8, 16, 64):
            used = measure(clock_hz, traffic(kind, given.bursts, beats), beats)
            print(f"| {kind} | {beats} | {used:.3f} |")


if __name__ == "__main__":
    main()
