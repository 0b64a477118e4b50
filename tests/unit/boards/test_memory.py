"""The accelerator's reader and the host on one block RAM, through the share, with stalls."""

import gc
import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from stmoe.boards.block_ram import BlockRam
from stmoe.boards.memory_port import BurstPort, HeldStream, MemorySignature
from stmoe.boards.share import MemoryShare
from stmoe.config import ConfigError

SIZE = 1 << 13
SIGNATURE = MemorySignature(addr_bits=20, data_bits=64, id_bits=2)


class Whole(wiring.Component):
    """A manager of its own and the host's port, on one memory."""

    def __init__(self):
        self.port, self.share = BurstPort(SIGNATURE), MemoryShare(SIGNATURE)
        self.ram = BlockRam(SIZE, self.share.outer)
        super().__init__({"first": In(SIGNATURE)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.port, m.submodules.share, m.submodules.ram = self.port, self.share, self.ram
        wiring.connect(m, wiring.flipped(self.first), self.share.first)
        wiring.connect(m, self.port.axi, self.share.second)
        wiring.connect(m, self.share.axi, self.ram.axi)
        return m


class Manager:
    """Writes, then reads back, random bursts of its own half of the memory; checks AXI's rules."""

    def __init__(self, axi, seed, stall):
        self.axi, self.rng, self.stall, self.read = axi, random.Random(seed), stall, 0

    async def step(self, ctx, channel, payload):
        while self.rng.random() < self.stall:
            await ctx.tick()
        ctx.set(channel.payload, payload)
        ctx.set(channel.valid, 1)
        while True:
            _, _, taken = await ctx.tick().sample(channel.ready)
            if taken:
                break
        ctx.set(channel.valid, 0)

    async def take(self, ctx, channel):
        while True:
            ready = self.rng.random() >= self.stall
            ctx.set(channel.ready, ready)
            _, _, valid, value = await ctx.tick().sample(channel.valid, channel.payload)
            ctx.set(channel.ready, 0)
            if valid and ready:
                return value

    async def run(self, ctx):
        axi, rng = self.axi, self.rng
        for _ in range(12):
            beats, name = rng.choice([1, 2, 9, 16]), rng.randrange(4)
            at = 8 * rng.randrange(SIZE // 16 - 16)
            request = {"addr": at, "id": name, "len": beats - 1, "size": 3, "burst": 1}
            values = [rng.getrandbits(64) for _ in range(beats)]
            await self.step(ctx, axi.aw, request)
            for number, value in enumerate(values):
                await self.step(ctx, axi.w, {"data": value, "strb": 255,
                                             "last": number == beats - 1})
            answer = await self.take(ctx, axi.b)
            assert (answer.id, answer.resp) == (name, 0)
            await self.step(ctx, axi.ar, request)
            for number, value in enumerate(values):
                beat = await self.take(ctx, axi.r)
                assert (beat.data, beat.id, beat.resp) == (value, name, 0)
                assert beat.last == (number == beats - 1)
                self.read += 1


async def transfer(ctx, port, address, values=None, beats=0, chance=lambda: True):
    """A transfer of the host's port; beats read, and whether it failed."""
    ctx.set(port.address, address)
    ctx.set(port.beats, len(values) if values else beats)
    ctx.set(port.writes, values is not None)
    ctx.set(port.start, 1)
    await ctx.tick()
    ctx.set(port.start, 0)
    got, left = [], list(values or [])
    while True:
        sends, takes = bool(left) and chance(), chance()
        ctx.set(port.write.valid, sends)
        ctx.set(port.write.payload, left[0] if left else 0)
        ctx.set(port.read.ready, takes)
        _, _, sent, came, value, done, failed = await ctx.tick().sample(
            port.write.valid & port.write.ready, port.read.valid & port.read.ready,
            port.read.payload, port.done, port.failed)
        while sends and not sent and not done:  # a stalled payload holds
            _, _, sent, done = await ctx.tick().sample(port.write.ready, port.done)
        if sent:
            left.pop(0)
        if came:
            got.append(value)
        if done:
            return got, failed


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_both_write_and_read_side_by_side(stall):
    dut = Whole()
    manager, rng = Manager(dut.first, 1, stall), random.Random(2)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    half = SIZE // 2

    async def host(ctx):
        for _ in range(10):
            beats, at = rng.choice([1, 15, 40, 128]), half + 8 * rng.randrange(SIZE // 16 - 128)
            values = [rng.getrandbits(64) for _ in range(beats)]
            assert await transfer(ctx, dut.port, at, values,
                                  chance=lambda: rng.random() >= stall) == ([], 0)
            assert await transfer(ctx, dut.port, at, beats=beats,
                                  chance=lambda: rng.random() >= stall) == (values, 0)
    sim.add_testbench(host)
    sim.add_testbench(manager.run)
    sim.run()
    assert manager.read > 50


def test_beyond_the_end_is_an_error_and_changes_nothing():
    dut = Whole()
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def host(ctx):
        assert await transfer(ctx, dut.port, 0, [7] * 2) == ([], 0)
        assert await transfer(ctx, dut.port, SIZE - 8, [1, 2]) == ([], 1)
        got, failed = await transfer(ctx, dut.port, SIZE - 8, beats=2)
        assert got[0] == 1 and failed
        assert await transfer(ctx, dut.port, 0, beats=2) == ([7, 7], 0)
    sim.add_testbench(host)
    sim.run()


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_a_size_that_is_no_whole_beats_is_named():
    for size in (8, 4092, 1 << 21):
        with pytest.raises(ConfigError, match=rf"a multiple of 8 .* not {size}"):
            BlockRam(size, SIGNATURE)
    gc.collect()


@pytest.mark.parametrize("stall, cycles", [(0, 80), (0.5, None)])
def test_a_held_stream_keeps_order_and_offers(stall, cycles):
    """40 payloads, one per two cycles where nobody stalls; an offer stands until it is taken."""
    dut, rng, got = HeldStream(data.StructLayout({"value": 8})), random.Random(4), []

    async def bench(ctx):
        given, clock, offered = 0, 0, None
        while len(got) < 40:
            offers, takes = given < 40 and rng.random() >= stall, rng.random() >= stall
            ctx.set(dut.given.valid, offers)
            ctx.set(dut.given.payload, {"value": given})
            ctx.set(dut.taken.ready, takes)
            _, _, accepted, valid, payload = await ctx.tick().sample(
                dut.given.ready, dut.taken.valid, dut.taken.payload)
            assert offered is None or (valid and payload.value == offered)
            offered = payload.value if valid and not takes else None
            given += bool(offers and accepted)
            clock += 1
            if valid and takes:
                got.append(payload.value)
        assert cycles is None or clock == cycles

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == list(range(40))
