"""A controller, its part behind registers at the pins, AXI's checkers, and a manager."""

import dataclasses
import random
from collections import deque

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from stmoe.boards.memory_port import MemorySignature
from stmoe.boards.sdram.controller import SdramController
from stmoe.boards.sdram.part import SDRAM_256M
from stmoe.bus.axi_check import AxiReadCheck
from stmoe.bus.axi_write_check import AxiWriteCheck
from stmoe_sim.rehearsal.pins import RegisteredPins
from support.sdram_model import SdramModel

__all__ = ["PART", "Bench"]

PART = dataclasses.replace(SDRAM_256M, row_bits=6, column_bits=6, power_up=2_000, refresh=2_000)
"""Of the same timing, but small, refreshed often, and awake soon."""
PHASE = 0.25  # of a cycle, from the board's clock to the part's


class Dut(wiring.Component):
    """Controller, registers, checkers; ``broken``: the rules of AXI that were broken so far."""

    def __init__(self, controller, geometry):
        self.controller, self.pins = controller, RegisteredPins(controller)
        self.reads, self.writes = AxiReadCheck(geometry), AxiWriteCheck(geometry, 4)
        super().__init__({"axi": In(controller.port), "broken": Out(4), "full": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.pins = self.pins
        m.submodules.reads, m.submodules.writes = self.reads, self.writes
        wiring.connect(m, wiring.flipped(self.axi), self.pins.axi)
        self.reads.watch(m, self.axi)
        self.writes.watch(m, self.axi)
        for check in (self.reads, self.writes):
            for side in (check.manager, check.subordinate):
                with m.If((side != 0) & (self.broken == 0)):
                    m.d.sync += self.broken.eq(side)
        with m.If(self.writes.full):
            m.d.sync += self.full.eq(1)
        # The part's clock, which only processes look at.
        m.domains.part = ClockDomain()
        edges = Signal()
        m.d.part += edges.eq(~edges)
        return m


class Bench:
    """Runs a list of bursts against a controller and its model.

    Parameters
    ----------
    geometry: of the checkers, a Geometry. part: what the controller is made for.
    real: what the model holds, else the same. clock_hz, capture: of the controller.
    seed, stall: chance per channel and cycle that the manager is not ready or has nothing.
    """

    def __init__(self, geometry, part=PART, real=None, *, clock_hz=40_000_000, capture=1, seed=1,
                 stall=0.0, controller=SdramController):
        c = geometry.config
        self.port = MemorySignature(addr_bits=c.axi_addr_bits, data_bits=c.axi_data_bits,
                                    id_bits=geometry.id_bits)
        self.dut = Dut(controller(part, self.port, clock_hz, capture), geometry)
        self.period = 1e9 / clock_hz
        self.model = SdramModel(real or part, self.period)
        self.rng, self.stall, self.beat = random.Random(seed), stall, c.axi_data_bits // 8
        self.cycle, self.words = 0, 0
        self.sim = Simulator(self.dut)
        self.sim.add_clock(self.period * 1e-9)
        self.sim.add_clock(self.period * 1e-9, phase=self.period * 1e-9 * (0.5 + PHASE),
                           domain="part")
        self.sim.add_testbench(self._part, background=True)
        self.sim.add_testbench(self._count, background=True)

    async def _part(self, ctx):
        pins = self.dut.pins
        while True:
            await ctx.tick("part")
            command = (ctx.get(pins.ras) << 2 | ctx.get(pins.cas) << 1
                       | ctx.get(pins.we))
            driven = ctx.get(pins.dq_o) if ctx.get(pins.dq_oe) else None
            word = self.model.step(
                command, ctx.get(pins.ba), ctx.get(pins.a), ctx.get(pins.dqm), driven,
                selected=ctx.get(pins.cs), enabled=ctx.get(pins.clk_en))
            ctx.set(pins.dq_i, 0xDEAD if word is None else word)

    async def _count(self, ctx):
        async for _ in ctx.tick():
            self.cycle += 1
            assert not ctx.get(self.dut.broken) and not ctx.get(self.dut.full), ctx.get(
                self.dut.broken)

    def chance(self):
        return self.rng.random() >= self.stall

    @staticmethod
    async def until(ctx, signal):
        """An edge at which ``signal`` is 1."""
        while True:
            _, _, value = await ctx.tick().sample(signal)
            if value:
                return

    async def offer(self, ctx, channel, payload):
        while not self.chance():
            await ctx.tick()
        ctx.set(channel.payload, payload)
        ctx.set(channel.valid, 1)
        await self.until(ctx, channel.ready)
        ctx.set(channel.valid, 0)

    async def take(self, ctx, channel):
        while True:
            ready = self.chance()
            ctx.set(channel.ready, ready)
            _, _, valid, value = await ctx.tick().sample(channel.valid, channel.payload)
            if valid and ready:
                ctx.set(channel.ready, 0)
                return value

    def request(self, address, beats, name=0):
        return {"addr": address, "id": name, "len": beats - 1, "burst": 1,
                "size": self.beat.bit_length() - 1}

    def run(self, writes, reads, *, between=None):
        """Writes, then reads of the same manager, each channel at its own pace.

        ``writes``: (address, values, strobes), ``reads``: (address, beats, id); ``between``: a
        process between the last response and the first read. Returns per read its values and worst
        response, per write its response, and the cycles of the reads.
        """
        axi, results, answers, queue = self.dut.axi, [], [], deque()
        took = []

        async def addresses(ctx):
            await self.until(ctx, self.dut.controller.ready)
            for address, values, _ in writes:
                await self.offer(ctx, axi.aw, self.request(address, len(values)))
            while len(answers) < len(writes):
                await ctx.tick()
            if between:
                await between(ctx)
            took.append(self.cycle)
            used = {}
            for address, beats, name in reads:
                while used.get(name, 0) > sum(done == name for done in queue):
                    await ctx.tick()
                used[name] = used.get(name, 0) + 1
                await self.offer(ctx, axi.ar, self.request(address, beats, name))

        async def data(ctx):
            await ctx.tick()
            for _, values, strobes in writes:
                for at, (value, strobe) in enumerate(zip(values, strobes, strict=True)):
                    await self.offer(ctx, axi.w, {"data": value, "strb": strobe,
                                                  "last": at == len(values) - 1})

        async def responses(ctx):
            for _ in writes:
                answers.append((await self.take(ctx, axi.b)).resp)

        async def values(ctx):
            for _, beats, name in reads:
                got, worst = [], 0
                for at in range(beats):
                    beat = await self.take(ctx, axi.r)
                    assert (beat.id, beat.last) == (name, at == beats - 1)
                    got.append(beat.data)
                    worst = max(worst, beat.resp)
                queue.append(name)
                results.append((got, worst))
            took.append(self.cycle)
        for process in (addresses, data, responses, values):
            self.sim.add_testbench(process)
        self.sim.run()
        return results, answers, took[1] - took[0]
