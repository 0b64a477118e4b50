"""Layers of many tokens on the PE array: any sharing of experts, both dataflows, golden's cost."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe_golden.compute.blob import pack
from stmoe_golden.compute.expert import Expert
from stmoe_golden.compute.mapping import Dataflow, dataflow, group, moe_tokens, parts, work
from support.routing import extremes

from .test_array import Bench, geometry

MOST = 4


class Tokens(Bench):
    """Plans of (x, routing, gates); experts 0 .. 7, those from ``experts`` on are shared."""

    bank_reads = 0
    lie = False  # about whose gate is whose
    missing = ()  # experts of which nothing has landed

    async def hand_out(self, ctx, work):
        self.random.shuffle(work)
        await self.send(ctx, self.dut.work, work)

    async def layers(self, ctx):
        g, dut = self.g, self.dut
        model = g.config.model
        shared = range(model.experts, model.expert_ids)
        for name in ("in_words", "gu_groups", "dn_tiles", "out_groups", "side_words", "blob_beats"):
            ctx.set(dut.shape[name], getattr(g, name))
        for x, routing, gates in self.plan:
            groups = group(routing, shared)
            slots = self.random.sample(range(g.banks), len(groups))
            ctx.set(dut.last_token, len(x) - 1)
            self.x_wanted += 1
            for expert, tokens in groups:
                for place, token in enumerate(tokens):
                    if expert < model.experts:
                        gate = int(gates[token][routing[token] == expert][0]) ^ self.lie
                        ctx.set(dut.member, {"valid": 1, "expert": expert, "place": place,
                                             "token": token, "gate": gate})
                        await ctx.tick()
                        ctx.set(dut.member.valid, 0)
            ctx.set(dut.start, 1)
            ctx.set(dut.count, len(groups))
            await ctx.tick()
            ctx.set(dut.start, 0)
            for slot, found in zip(slots, groups, strict=True):
                self.landed[slot] = 0 if self.rate or found.expert in self.missing else g.blob_beats
                self.slots[slot] = pack(self.experts[found.expert], g)
            self.show_watermarks(ctx)
            work = [{"slot": slot, "gate": len(tokens) - 1 | expert << 6}
                    for slot, (expert, tokens) in zip(slots, groups, strict=True)]
            await self.hand_out(ctx, work)
            await self.settle(ctx, slots, moe_tokens(x, routing, gates, self.experts, shared))

    async def reads(self, ctx):
        async for _, _, *reading in ctx.tick().sample(*(read.en for read in self.dut.read)):
            self.bank_reads += sum(reading)

    def play(self, routings):
        model = self.g.config.model
        self.experts = {e: Expert.random(self.rng, model.d_model, self.g.ff,
                                         self.g.config.weight_group)
                        for e in range(model.expert_ids)}
        self.plan = [(self.rng.integers(-128, 128, (len(routing), model.d_model), np.int8),
                      np.array(routing), self.rng.integers(
                          0, 65536, np.shape(routing)).astype(np.uint16)) for routing in routings]
        self.inputs, self.x_wanted = [x for x, *_ in self.plan], 0
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        for part in (self.memory, self.releases, self.activations, self.reads):
            simulator.add_testbench(part, background=True)
        simulator.add_testbench(self.layers)
        simulator.run()


def expected(g, routings):
    """Words multiplied and read, parameter rows read."""
    model = g.config.model
    return np.sum([work(g, part) for routing in routings
                   for _, tokens in group(np.array(routing), range(
                       model.experts, model.expert_ids))
                   for part in parts(g, len(tokens), len(routing))], 0).tolist()


@pytest.mark.parametrize("shape, stall, rate", [
    ({"pes": 1, "d_ff": 8}, 0, 0), ({"pes": 3, "rows": 2, "lanes": 4, "d_ff": 8}, 0.4, 0.5),
    ({"rows": 8, "d_model": 64, "d_ff": 32, "weight_group": 32}, 0.4, 0.5),
    ({"rows": 8, "lanes": 4, "model_shared_experts": 1, "model_shared_d_ff": 16}, 0.4, 0)])
def test_every_sharing_equals_golden(shape, stall, rate):
    g = geometry(max_tokens=MOST, **shape)
    bench = Tokens(g, 7, stall, rate)
    routings = list(extremes(tokens=MOST, experts=7, top_k=2).values())
    bench.play(routings)
    assert [bench.mac_words, bench.bank_reads, bench.side_reads] == expected(g, routings)


def test_the_dataflow_is_that_of_fewer_reads():
    g = geometry(max_tokens=MOST)
    flows = [dataflow(g, tokens) for tokens in range(1, MOST + 1)]
    assert flows == [Dataflow.INPUT] + [Dataflow.WEIGHT] * (MOST - 1)


def test_no_cycle_is_lost_where_the_dataflow_changes():
    g = geometry(max_tokens=MOST, pes=1, d_model=64, d_ff=32)
    bench = Tokens(g, 1, 0, 0)
    routing = [[0, 1], [0, 2], [0, 3], [4, 1]]  # experts of 3, 2, 1, 1 and 1 tokens
    bench.play([routing])
    words = expected(g, [routing])[0]
    assert bench.mac_words == words and all(bench.busy[:words])


@pytest.mark.parametrize("broken", ["gate", "word"])
def test_what_is_wrong_for_one_token_is_noticed(broken):
    class Broken(Tokens):
        lie = broken == "gate"

        def words(self, slot, index, size, start):
            word = super().words(slot, index, size, start)
            return word ^ (1 << 3) if broken == "word" and start and index == 5 else word

    with pytest.raises(AssertionError):
        Broken(geometry(max_tokens=MOST), 7, 0, 0).play([[[0, 1], [1, 2]]])
