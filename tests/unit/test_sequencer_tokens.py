"""Layer commands of many tokens at the sequencer: grouping by expert, phases, refusal."""

import pytest

from stmoe.interfaces import ErrorCode, Opcode, Phase

from .test_sequencer import CONFIG, Bench, taken

MANY = CONFIG.replace(max_tokens=4)
IN, OUT = 4, 8  # words of a token's activations, beats of its result


class Tokens(Bench):
    """The array answers with the packet of as many tokens as were announced to it."""

    def __init__(self, seed, config=MANY):
        super().__init__(seed, config)
        self.members = []
        self.simulator.add_process(self._members)

    async def _members(self, ctx):
        async for _, _, member in ctx.tick().sample(self.dut.member):
            if member.valid:
                self.members.append((member.expert, member.place, member.token, member.gate))

    async def _array(self, ctx):
        port = self.dut.result_in
        while True:
            while not ctx.get(self.dut.start):
                await ctx.tick()
            await ctx.tick().repeat(60)  # not before every expert was dispatched
            beats = (ctx.get(self.dut.last_token) + 1) * OUT
            for beat in range(beats):
                ctx.set(port.payload.data, 7 + beat)
                ctx.set(port.payload.last, beat == beats - 1)
                ctx.set(port.valid, 1)
                await taken(ctx, port.ready)
                ctx.set(port.valid, 0)


def command(routing, layer=1, phase=Phase.DECODE, tokens=None):
    """Gates are 100 + 10 * token + rank."""
    tokens = len(routing) if tokens is None else tokens
    return [Opcode.LAYER | phase << 9 | layer << 16 | tokens << 32,
            *(e | (100 + 10 * t + rank) << 16 for t, experts in enumerate(routing)
              for rank, e in enumerate(experts))]


def acts(tokens):
    return list(range(IN * tokens))


@pytest.mark.parametrize("seed, phase", [(0, Phase.DECODE), (1, Phase.PREFILL), (2, Phase.VERIFY)])
def test_tokens_are_grouped_by_expert_in_order_of_first_use(seed, phase):
    bench = Tokens(seed)
    bench.play([Opcode.TOKEN, *command([[5, 3], [3, 2], [0, 5]], phase=phase)], acts(3),
               until=lambda b: len(b.out["result"]) == 3 * OUT)
    assert [(r.expert, r.gate >> 6, r.gate & 63, r.count, r.shared, r.last, r.stream)
            for r in bench.out["routed"]] == [
        (e, e, others, 5, e == 8, e == 8, phase == Phase.PREFILL)
        for e, others in ((5, 1), (3, 1), (2, 0), (0, 0), (8, 2))]
    assert bench.members == [(5, 0, 0, 100), (3, 0, 0, 101), (3, 1, 1, 110), (2, 0, 1, 111),
                             (0, 0, 2, 120), (5, 1, 2, 121)]
    assert [(o.expert, o.last) for o in bench.out["observe"]] == [(0, 0), (5, 1)]  # the last token
    assert bench.out["x"] == acts(3) and bench.starts == 1 and not bench.errors
    assert [r.data for r in bench.out["result"]] == [7 + beat for beat in range(3 * OUT)]


def test_a_command_knows_nothing_of_the_one_before():
    bench = Tokens(4)
    bench.play([*command([[5, 3], [5, 2]]), *command([[5, 3]]), *command([[3, 5], [2, 3]])],
               acts(5), until=lambda b: len(b.out["result"]) == 5 * OUT)
    assert [(r.expert, r.gate & 63) for r in bench.out["routed"]] == [
        (5, 1), (3, 0), (2, 0), (8, 1), (5, 0), (3, 0), (8, 0), (3, 1), (5, 0), (2, 0), (8, 1)]
    assert not bench.errors


@pytest.mark.parametrize("seed", range(2))
def test_tokens_are_routed_on_chip_one_after_the_other(seed):
    bench = Tokens(seed, MANY.replace(linear_lookahead=True))
    weights = [0] * MANY.model.experts * IN
    load = [Opcode.LOAD_ROUTER | layer << 16 for layer in range(2)]
    bench.play([*load, Opcode.LAYER | 1 << 8 | 3 << 32], [*weights, *weights, *acts(3)],
               until=lambda b: len(b.out["result"]) == 3 * OUT)
    assert [(r.layer, r.ahead) for r in bench.out["route"]] == [(0, 0), (0, 0), (0, 1)]
    assert bench.out["router_x"] == bench.out["x"] == acts(3) and not bench.errors
    assert [(r.expert, r.gate & 63) for r in bench.out["routed"]] == [(0, 2), (1, 2), (8, 2)]


@pytest.mark.parametrize("routing, tokens, code", [
    ([], 0, ErrorCode.BAD_TOKENS),
    ([[5, 3]] * 5, 5, ErrorCode.BAD_TOKENS),
    ([[5, 3], [2, 2]], 2, ErrorCode.BAD_EXPERT),
    ([[5, 3], [2, 8]], 2, ErrorCode.BAD_EXPERT)])
@pytest.mark.parametrize("seed", range(2))
def test_what_cannot_run_is_refused_in_step(routing, tokens, code, seed):
    bench = Tokens(seed)
    packet = max(1, tokens) * OUT
    bench.play([*command(routing, tokens=tokens), *command([[1, 2]])], acts(tokens + 1),
               until=lambda b: len(b.out["result"]) == packet + OUT)
    assert [error for error, _ in bench.errors] == [code]
    refused = bench.out["result"][:packet]
    assert all(r.error and r.data == 0 for r in refused)
    assert [r.last for r in refused] == [0] * (packet - 1) + [1]
    assert [r.expert for r in bench.out["routed"]] == [1, 2, 8] and not bench.acts
    assert bench.out["x"] == acts(tokens + 1)[-IN:]
