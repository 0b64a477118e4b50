"""Two readers on one port, with stalls everywhere and answers in any order."""

import gc
import random

import pytest
from amaranth.sim import Simulator

from stmoe.bus.axi_share import AxiShare
from stmoe.config import AcceleratorConfig, ConfigError, Geometry, ModelShape
from support.axi_memory import AxiMemory

BOUNDARY, SIZE = 5, 1 << 14
GEOMETRY = Geometry(AcceleratorConfig(
    model=ModelShape(layers=2, experts=4, top_k=1, d_model=64, d_ff=32), outstanding=8))


class Reader:
    """Asks for random bursts; files what each of them was answered with."""

    def __init__(self, axi, ids, count, *, seed, stall, pause=0.0):
        self.axi, self.ids, self.count = axi, ids, count
        self.rng, self.stall, self.pause = random.Random(seed), stall, pause
        self.flying, self.got, self.waits = {}, [], []

    async def ask(self, ctx):
        ar = self.axi.ar
        for _ in range(self.count):
            while self.rng.random() < self.pause or len(self.flying) == len(self.ids):
                await ctx.tick()
            name = self.rng.choice([i for i in self.ids if i not in self.flying])
            beats = self.rng.choice([1, 2, 3, 16])
            address = self.rng.randrange(0, SIZE - 8 * 16, 8 * 16)
            self.flying[name] = (address, beats, [])
            ctx.set(ar.payload, {"addr": address, "id": name, "len": beats - 1, "size": 3,
                                 "burst": 1})
            ctx.set(ar.valid, 1)
            waited = 0
            while True:
                _, _, taken = await ctx.tick().sample(ar.ready)
                if taken:
                    break
                waited += 1
            self.waits.append(waited)
            ctx.set(ar.valid, 0)
        while self.flying:
            await ctx.tick()

    async def take(self, ctx):
        r, held = self.axi.r, None
        while True:
            ready = self.rng.random() >= self.stall
            ctx.set(r.ready, ready)
            _, _, valid, beat = await ctx.tick().sample(r.valid, r.payload)
            assert held is None or (valid and beat == held), "R changed while stalled"
            held = beat if valid and not ready else None
            if valid and ready:
                address, beats, data = self.flying[beat.id]
                data.append(beat.data)
                assert beat.last == (len(data) == beats)
                if beat.last:
                    self.got.append((address, data))
                    del self.flying[beat.id]


def simulate(unit, *, count=120, stall=0.3, pause=(0.0, 0.0), interleave=True, seed=1):
    memory = AxiMemory(unit.axi, axi_bytes=8, stall=stall, interleave=interleave, seed=seed)
    memory.data = bytearray(random.Random(7).randbytes(SIZE))
    readers = [Reader(port, ids, count, seed=seed + at, stall=stall, pause=pause[at])
               for at, (port, ids) in enumerate([(unit.first, range(BOUNDARY)),
                                                 (unit.second, range(BOUNDARY, 8))])]
    sim = Simulator(unit)
    sim.add_clock(1e-8)
    for reader in readers:
        sim.add_testbench(reader.ask)
        sim.add_testbench(reader.take, background=True)
    memory.attach(sim)
    sim.run()
    return memory, readers


@pytest.mark.parametrize("stall", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("interleave", [False, True])
def test_each_reader_gets_its_own_answers(stall, interleave):
    unit = AxiShare(GEOMETRY, BOUNDARY)
    memory, readers = simulate(unit, stall=stall, interleave=interleave)
    for reader in readers:
        assert len(reader.got) == reader.count
        for address, data in reader.got:
            assert data == [memory.get(address + 8 * i) for i in range(len(data))]
    assert len(memory.reads) == 240


def test_the_second_reader_goes_first():
    unit = AxiShare(GEOMETRY, BOUNDARY)
    _, (first, second) = simulate(unit, stall=0.0, pause=(0.0, 0.7))
    assert max(second.waits) == 0  # the port takes a burst per cycle
    assert 1 <= max(first.waits) <= 3


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_a_boundary_that_is_no_id_is_named():
    for boundary in (0, 16):
        with pytest.raises(ConfigError, match=f"from 1 to 15, an AXI id, not {boundary}"):
            AxiShare(GEOMETRY, boundary)
    gc.collect()
