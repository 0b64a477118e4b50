"""Expert buffer against a dictionary of bytes, at every grouping of the banks."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.buffer.storage import BufferStorage
from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.interfaces import BufferReadSignature


def config(**more):
    return AcceleratorConfig(**{
        "model": ModelShape(layers=1, experts=4, top_k=2, d_model=32, d_ff=16), "pes": 2,
        "rows": 4, "lanes": 8, "slots": 8, "axi_data_bits": 64, "max_d_ff": 64}).replace(**more)


async def exercise(ctx, dut, g, rng, broken=False):
    """Fill every slot in a random order of beats, read all back through all ports at once."""
    for name in ("side_words", "blob_beats", "group", "slots", "gu_groups", "out_groups"):
        ctx.set(dut.shape[name], getattr(g, name))
    size = g.axi_bytes
    blobs = {slot: rng.randbytes(g.content_beats * g.axi_bytes) for slot in range(g.slots)}
    beats = [(slot, beat) for slot in blobs for beat in range(g.content_beats)]
    rng.shuffle(beats)
    for slot, beat in beats:
        if rng.random() < 0.2:
            ctx.set(dut.fill.valid, 0)
            await ctx.tick()
        data = blobs[slot][beat * size:(beat + 1) * size]
        ctx.set(dut.fill.valid, 1)
        ctx.set(dut.fill.payload, {"slot": slot, "beat": beat,
                                   "data": int.from_bytes(data, "little") ^ (broken and beat == 9)})
        await ctx.tick()
    ctx.set(dut.fill.valid, 0)
    await ctx.tick()

    side = g.side_words * g.side_bytes
    row_bytes, scales = 4 * g.config.rows, g.param_words * g.side_bytes
    slots = list(blobs)
    queue = []
    for _ in range(400):
        asked = []
        for port, slot, other in zip(dut.read, rng.sample(slots, len(dut.read)),
                                     rng.sample(slots, len(dut.read)), strict=True):
            word, row = rng.randrange(g.weight_words), rng.randrange(g.param_rows)
            en, param_en = rng.random() < 0.8, rng.random() < 0.8
            for name, value in (("slot", slot), ("word", word), ("en", en), ("row", row),
                                ("param_slot", other), ("param_en", param_en)):
                ctx.set(getattr(port, name), value)
            at = side + word * g.word_bytes
            if g.config.weight_group:
                group = rng.randrange(g.scale_groups)
                ctx.set(port.group, group)
                at_scale = scales + group * g.config.rows
            asked.append((
                int.from_bytes(blobs[slot][at:at + g.word_bytes], "little") if en else None,
                int.from_bytes(blobs[slot][at_scale:at_scale + g.config.rows], "little")
                if en and g.config.weight_group else None,
                int.from_bytes(blobs[other][row * row_bytes:(row + 1) * row_bytes], "little")
                if param_en else None))
        queue.append(asked)
        await ctx.tick()
        if len(queue) == BufferReadSignature.LATENCY:
            for port, (data, factors, params) in zip(dut.read, queue.pop(0), strict=True):
                assert data is None or ctx.get(port.data) == data
                assert factors is None or ctx.get(port.scales) == factors
                assert params is None or ctx.get(port.params) == params


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("more", [
    {}, {"banks_per_slot": 2}, {"axi_data_bits": 256}, {"max_d_ff": 0, "slots": 3},
    {"pes": 1}, {"pes": 1, "banks_per_slot": 2}, {"pes": 1, "max_d_ff": 0, "slots": 3},
    {"pes": 1, "max_d_ff": 0, "slots": 23},  # two RAMs
    {"weight_group": 32, "model_d_model": 64, "model_d_ff": 32},
    {"weight_group": 32, "model_d_model": 64, "model_d_ff": 32, "pes": 1},
    {"weight_group": 32, "model_d_model": 64, "model_d_ff": 32, "axi_data_bits": 128, "rows": 16}])
def test_every_byte_comes_back_after_regrouping(more):
    made = config(**more)
    dut = BufferStorage(Geometry(made))
    rng = random.Random(2)
    widths = [width for width in ([16, 64, 32, 8, 16] if made.max_d_ff else [16])
              if width % (made.weight_group or made.rows) == 0]
    groups = {Geometry(made, width).group for width in widths}
    assert len(groups) > 1 or not made.max_d_ff

    async def bench(ctx):
        for width in widths:
            await exercise(ctx, dut, Geometry(made, width), rng)
    simulate(dut, bench)


@pytest.mark.parametrize("pes", [1, 2])
def test_a_wrong_bit_is_noticed(pes):
    made = Geometry(config(pes=pes))
    dut = BufferStorage(made)

    async def bench(ctx):
        await exercise(ctx, dut, made, random.Random(2), broken=True)
    with pytest.raises(AssertionError):
        simulate(dut, bench)


@pytest.mark.parametrize("pes", [1, 2])
@pytest.mark.parametrize("later", [1, 2])
def test_a_beat_is_there_for_what_is_issued_two_cycles_later(pes, later):
    g = Geometry(config(pes=pes, axi_data_bits=256))  # a beat is a word
    dut = BufferStorage(g)

    async def bench(ctx):
        for name in ("side_words", "blob_beats", "group", "slots"):
            ctx.set(dut.shape[name], getattr(g, name))
        port, word = dut.read[0], random.Random(7).getrandbits(256)
        ctx.set(dut.fill.valid, 1)
        ctx.set(dut.fill.payload, {"slot": 2, "beat": g.side_words + 5, "data": word})
        for name, value in (("slot", 2), ("word", 5)):
            ctx.set(getattr(port, name), value)
        for cycle in range(later + BufferReadSignature.LATENCY):
            ctx.set(port.en, cycle == later)
            await ctx.tick()
            ctx.set(dut.fill.valid, 0)
        assert (ctx.get(port.data) == word) == (later == 2)
    simulate(dut, bench)


def test_watermarks_are_those_of_the_slot_watched():
    dut = BufferStorage(Geometry(config()))

    async def bench(ctx):
        rng, marks = random.Random(5), [0] * 4
        for _ in range(200):
            asked = [(watch, mark, rng.randrange(4)) for port in dut.read for watch, mark in (
                (port.watch, port.watermark), (port.watch_next, port.watermark_next))]
            for watch, _, slot in asked:
                ctx.set(watch, slot)
            seen = [marks[slot] for _, _, slot in asked]
            slot, beats, valid = rng.randrange(4), rng.randrange(100), rng.randrange(2)
            ctx.set(dut.progress, {"valid": valid, "slot": slot, "beats": beats})
            if valid:
                marks[slot] = beats
            assert [ctx.get(mark) for _, mark, _ in asked] == seen
            await ctx.tick()
    simulate(dut, bench)
