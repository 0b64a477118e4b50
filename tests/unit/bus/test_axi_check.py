"""The protocol checkers in simulation: silent at a legal DMA, naming each rule that is broken."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from stmoe.bus.axi_check import AxiReadCheck, AxiRule
from stmoe.bus.axi_write_check import AxiWriteCheck
from stmoe.bus.axil_check import AxiLiteCheck
from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.prefetch.dma import PrefetchDma
from support.axi_memory import AxiMemory

BASE = 0xC40  # bursts meet 4 KiB boundaries away from tile boundaries, as they may without CRCs
G = Geometry(AcceleratorConfig(
    model=ModelShape(layers=2, experts=4, top_k=2, d_model=64, d_ff=32), slots=8, outstanding=4,
    burst_beats=32, integrity=False))


def run_dma(seed, stall, *, faults=None):
    """All experts, on demand and ahead, with cancellations; the codes that the checker gave."""
    dma, check = PrefetchDma(G), AxiReadCheck(G)
    m = Module()
    m.submodules.dma, m.submodules.check = dma, check
    check.watch(m, dma.axi)
    memory = AxiMemory(dma.axi, axi_bytes=G.axi_bytes, size=1 << 16, seed=seed, stall=stall,
                       interleave=True, read_faults=faults)
    rng, codes, reports = random.Random(seed), set(), []
    sim = Simulator(m)
    sim.add_clock(1e-8)

    async def orders(ctx):
        for name in ("blob_beats", "stride"):
            ctx.set(dma.shape[name], getattr(G, name))
        ctx.set(dma.shape.experts, G.config.model.experts)
        ctx.set(dma.shape.base, BASE)
        for slot in range(8):
            port = rng.choice([dma.demand, dma.prefetch])
            ctx.set(port.payload, {"layer": slot // 4, "expert": slot % 4, "slot": slot})
            ctx.set(port.valid, 1)
            taken = False
            while not taken:
                *_, taken = await ctx.tick().sample(port.ready)
            ctx.set(port.valid, 0)
            if port is dma.prefetch and rng.random() < 0.3:
                await ctx.tick().repeat(rng.randrange(60))
                ctx.set(dma.cancel, {"valid": 1, "slot": slot})
                await ctx.tick()
                ctx.set(dma.cancel.valid, 0)
        while ctx.get(dma.active):
            await ctx.tick()

    async def look(ctx):
        while True:
            ctx.set(dma.status.ready, rng.random() >= stall)
            _, _, manager, subordinate, valid, ready, report = await ctx.tick().sample(
                check.manager, check.subordinate, dma.status.valid, dma.status.ready,
                dma.status.payload)
            codes.update({("manager", manager), ("subordinate", subordinate)})
            if valid and ready:
                reports.append(report.kind)

    sim.add_testbench(orders)
    sim.add_testbench(look, background=True)
    memory.attach(sim)
    sim.run()
    return {(side, AxiRule(code)) for side, code in codes if code}, reports, memory


@pytest.mark.parametrize("seed, stall", [(1, 0.0), (2, 0.3), (3, 0.7)])
def test_dma_keeps_every_rule_under_stalls(seed, stall):
    broken, reports, memory = run_dma(seed, stall)
    assert not broken and reports and len(memory.reads) > 20


def test_dma_keeps_every_rule_while_bursts_fail_and_are_repeated():
    broken, reports, memory = run_dma(4, 0.3, faults={BASE: 1, BASE + G.stride: 9})
    assert not broken and reports
    assert len(memory.reads) != len(set(memory.reads)), "nothing was read twice"


def test_a_burst_across_a_page_is_seen(monkeypatch):
    monkeypatch.setattr("stmoe.prefetch.legaliser.PAGE_BYTES", 1 << 16)
    monkeypatch.setattr(AxiMemory, "burst", lambda self, request, faults: [
        self.due(), request.id, request.addr, request.len + 1, 0])
    broken, *_ = run_dma(1, 0.0)
    assert broken == {("manager", AxiRule.PAGE)}


def steps(check, sequence):
    """Codes of both sides for a list of cycles, each a dictionary of the checker's inputs."""
    codes = []
    sim = Simulator(check)
    sim.add_clock(1e-8)

    async def play(ctx):
        for cycle in [{}, *sequence]:
            for name in ("ar", "r", "aw", "w", "b"):
                if hasattr(check, name):
                    ctx.set(getattr(check, name), {"valid": 0})
            for name, value in cycle.items():
                ctx.set(getattr(check, name), value)
            codes.append((AxiRule(ctx.get(check.manager)), AxiRule(ctx.get(check.subordinate))))
            await ctx.tick()
    sim.add_testbench(play)
    sim.run()
    return codes[1:]


def ar(address=0, beats=1, ready=1, name=0, size=3, burst=1):
    return {"valid": 1, "ready": ready, "payload": {
        "addr": address, "len": beats - 1, "id": name, "size": size, "burst": burst}}


def beat(name=0, last=1, resp=0, ready=1, data=0):
    return {"valid": 1, "ready": ready, "payload": {
        "id": name, "last": last, "resp": resp, "data": data}}


@pytest.mark.parametrize("sequence, side, rule", [
    ([{"ar": ar(ready=0)}, {}], 0, AxiRule.STABLE),
    ([{"ar": ar(ready=0)}, {"ar": ar(8)}], 0, AxiRule.STABLE),
    ([{"ar": ar(0xFF8, 2)}], 0, AxiRule.PAGE),
    ([{"ar": ar(0xFF9, 2, size=2)}, {"ar": ar(0xFFD, 2, size=2, name=1)}], 0, AxiRule.PAGE),
    ([{"ar": ar(size=4)}], 0, AxiRule.SIZE),
    ([{"ar": ar(burst=3)}], 0, AxiRule.BURST),
    ([{"ar": ar(burst=0, beats=17)}], 0, AxiRule.BURST),
    ([{"ar": ar(burst=2, beats=3)}], 0, AxiRule.BURST),
    ([{"ar": ar(4, burst=2, beats=4)}], 0, AxiRule.ALIGNED),
    ([{"ar": ar()}, {"ar": ar()}], 0, AxiRule.REUSED),
    ([{"r": beat()}], 1, AxiRule.UNASKED),
    ([{"ar": ar()}, {"r": beat(name=1)}], 1, AxiRule.UNASKED),
    ([{"ar": ar(beats=2)}, {"r": beat()}], 1, AxiRule.LAST),
    ([{"ar": ar(beats=2)}, {"r": beat(last=0)}, {"r": beat(last=0)}], 1, AxiRule.LAST),
    ([{"ar": ar()}, {"r": beat(resp=1)}], 1, AxiRule.RESPONSE),
    ([{"ar": ar()}, {"r": beat(ready=0)}, {"r": beat(data=1)}], 1, AxiRule.STABLE),
])
def test_read_rule_is_named(sequence, side, rule):
    codes = steps(AxiReadCheck(G), sequence)
    assert codes[-1][side] == rule
    assert all(code == (AxiRule.NONE, AxiRule.NONE) for code in codes[:-1])


def w(last=1, strb=0xFF, ready=1):
    return {"valid": 1, "ready": ready, "payload": {"data": 0, "strb": strb, "last": last}}


def b(resp=0, ready=1):
    return {"valid": 1, "ready": ready, "payload": {"resp": resp, "id": 0}}


@pytest.mark.parametrize("sequence, side, rule", [
    ([{"aw": ar(beats=2)}, {"w": w()}], 0, AxiRule.LAST),
    ([{"w": w()}, {"aw": ar(beats=2)}], 0, AxiRule.LAST),  # data ahead of their address
    ([{"aw": ar(beats=2), "w": w(last=0)}, {"w": w(last=0)}], 0, AxiRule.LAST),
    ([{"aw": ar(4)}, {"w": w()}], 0, AxiRule.STROBE),
    ([{"w": w()}, {"aw": ar(4)}], 0, AxiRule.STROBE),
    ([{"aw": ar(size=2)}], 0, AxiRule.SIZE),
    ([{"w": w(ready=0)}, {"w": w(ready=0, last=0)}], 0, AxiRule.STABLE),
    ([{"aw": ar()}, {"b": b()}], 1, AxiRule.UNASKED),
    ([{"w": w()}, {"b": b()}], 1, AxiRule.UNASKED),
    ([{"aw": ar(), "w": w()}, {"b": b()}, {"b": b()}], 1, AxiRule.UNASKED),
    ([{"aw": ar(), "w": w()}, {"b": b(resp=1)}], 1, AxiRule.RESPONSE),
])
def test_write_rule_is_named(sequence, side, rule):
    codes = steps(AxiWriteCheck(G, 4), sequence)
    assert codes[-1][side] == rule
    assert all(code == (AxiRule.NONE, AxiRule.NONE) for code in codes[:-1])


def test_writes_in_every_order_are_legal():
    codes = steps(AxiWriteCheck(G, 4), [
        {"aw": ar(4), "w": w(strb=0xF0)}, {"aw": ar(beats=2)}, {"aw": ar()},
        {"w": w(last=0), "b": b()}, {"w": w()}, {"w": w(), "b": b(2)}, {"b": b()},
        {"w": w(last=0)}, {"w": w()}, {"aw": ar(beats=2)}, {"b": b()}])
    assert set(codes) == {(AxiRule.NONE, AxiRule.NONE)}


@pytest.mark.parametrize("sequence, side, rule", [
    ([{"arvalid": 1}, {"arvalid": 0}], 0, AxiRule.STABLE),
    ([{"bvalid": 1}], 1, AxiRule.UNASKED),
    ([{"awvalid": 1, "awready": 1}, {"awvalid": 0, "bvalid": 1}], 1, AxiRule.UNASKED),
    ([{"arvalid": 1, "arready": 1}, {"arvalid": 0, "rvalid": 1, "rresp": 1}], 1,
     AxiRule.RESPONSE),
])
def test_lite_rule_is_named(sequence, side, rule):
    codes = steps(AxiLiteCheck(), sequence)
    assert codes[-1][side] == rule
    assert all(code == (AxiRule.NONE, AxiRule.NONE) for code in codes[:-1])
