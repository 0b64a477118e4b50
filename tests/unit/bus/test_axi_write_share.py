"""Two writers on one port, with stalls everywhere and answers between ids in any order."""

import random

import pytest
from amaranth.hdl import Mux
from amaranth.sim import Simulator

from stmoe.bus.axi_write_share import AxiWriteShare
from stmoe.config import AcceleratorConfig, Geometry, ModelShape

GEOMETRY = Geometry(AcceleratorConfig(
    model=ModelShape(layers=2, experts=4, top_k=1, d_model=64, d_ff=32)))
BURSTS = 60


class Writer:
    """Writes bursts of numbered words; files the answers that it gets."""

    def __init__(self, port, number, *, seed, stall):
        self.port, self.number, self.stall = port, number, stall
        self.rng = random.Random(f"{seed} {number}")
        self.sent = [(number << 16 | burst << 8, self.rng.choice([1, 2, 7]))
                     for burst in range(BURSTS)]
        self.answers = 0

    async def write(self, ctx):
        aw, w, rng = self.port.aw, self.port.w, self.rng
        for address, beats in self.sent:
            while rng.random() < self.stall:
                await ctx.tick()
            ctx.set(aw.payload, {"addr": address, "len": beats - 1, "size": 3, "burst": 1})
            ctx.set(aw.valid, 1)
            beat, asked = 0, False
            while beat < beats or not asked:
                ctx.set(w.valid, beat < beats)
                ctx.set(w.payload, {"data": address + beat, "strb": 255, "last": beat == beats - 1})
                _, _, aw_taken, w_taken = await ctx.tick().sample(aw.ready, w.ready)
                if aw_taken and not asked:
                    asked = True
                    ctx.set(aw.valid, 0)
                if w_taken and beat < beats:
                    beat += 1
            ctx.set(w.valid, 0)
        while self.answers < BURSTS:
            await ctx.tick()

    async def answered(self, ctx):
        b = self.port.b
        while True:
            ready = self.rng.random() >= self.stall
            ctx.set(b.ready, ready)
            _, _, valid, answer = await ctx.tick().sample(b.valid, b.payload)
            if valid and ready:
                assert answer.id == self.number
                self.answers += 1


class Memory:
    """Takes addresses and data each at its own pace; answers whole bursts."""

    def __init__(self, axi, *, seed, stall):
        self.axi, self.rng, self.stall = axi, random.Random(seed), stall
        self.addresses, self.bursts, self.answered, self.part = [], [], set(), []

    async def asked(self, ctx):
        await self._take(ctx, self.axi.aw, self.addresses.append)

    async def data(self, ctx):
        def beat(payload):
            self.part.append(payload.data)
            if payload.last:
                self.bursts.append(self.part)
                self.part = []
        await self._take(ctx, self.axi.w, beat)

    async def _take(self, ctx, port, take):
        held = None
        for _ in range(20_000):
            ready = self.rng.random() >= self.stall
            ctx.set(port.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            assert held is None or (valid and payload == held), "changed while stalled"
            held = payload if valid and not ready else None
            if valid and ready:
                take(payload)
        raise AssertionError(f"stuck after {len(self.bursts)} bursts")

    async def answer(self, ctx):
        b = self.axi.b
        while True:
            whole = min(len(self.addresses), len(self.bursts))
            open_ = {}
            for index in range(whole):
                if index not in self.answered:
                    open_.setdefault(self.addresses[index].id, index)
            if not open_ or self.rng.random() < self.stall:
                await ctx.tick()
                continue
            index = self.rng.choice(list(open_.values()))
            self.answered.add(index)
            ctx.set(b.payload, {"id": self.addresses[index].id, "resp": 0})
            ctx.set(b.valid, 1)
            taken = False
            while not taken:
                _, _, taken = await ctx.tick().sample(b.ready)
            ctx.set(b.valid, 0)


def simulate(seed=1, stall=0.3, stalls=None):
    unit = AxiWriteShare(GEOMETRY)
    writers = [Writer(port, number, seed=seed, stall=stall if stalls is None else stalls[number])
               for number, port in enumerate((unit.first, unit.second))]
    memory = Memory(unit.axi, seed=seed, stall=stall)
    sim = Simulator(unit)
    sim.add_clock(1e-8)
    for writer in writers:
        sim.add_testbench(writer.write)
        sim.add_testbench(writer.answered, background=True)
    for part in (memory.asked, memory.data, memory.answer):
        sim.add_testbench(part, background=True)
    sim.run()
    return writers, memory


def check(writers, memory):
    """Every burst once, its data behind its address, in each writer's order, all answered."""
    assert len(memory.addresses) == len(memory.bursts) == 2 * BURSTS
    for asked, data in zip(memory.addresses, memory.bursts, strict=True):
        assert data == [asked.addr + beat for beat in range(asked.len + 1)]
        assert asked.id == asked.addr >> 16
    for writer in writers:
        mine = [(asked.addr, asked.len + 1) for asked in memory.addresses
                if asked.id == writer.number]
        assert mine == writer.sent and writer.answers == BURSTS


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stall", [0.0, 0.3, 0.8])
def test_bursts_of_two_writers_do_not_mix(seed, stall):
    check(*simulate(seed, stall))


def test_the_second_goes_first_and_the_first_is_not_lost():
    _, memory = simulate(stall=0.0)
    assert memory.addresses[0].id == 1
    _, memory = simulate(stall=0.0, stalls=(0.0, 0.9))  # the second pauses
    assert 0 in {asked.id for asked in memory.addresses[:10]}


def test_a_port_that_changes_hands_within_a_burst_is_noticed(monkeypatch):
    import stmoe.bus.axi_write_share as module

    seen = []

    def careless(test, one, other):  # the first choice is who owns the port
        seen.append(test)
        return other if len(seen) == 1 else Mux(test, one, other)
    monkeypatch.setattr(module, "Mux", careless)
    with pytest.raises(AssertionError):
        check(*simulate())
