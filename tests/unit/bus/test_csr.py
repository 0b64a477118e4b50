import random

import pytest
from amaranth.sim import Simulator

from stmoe.bus.counters import CYCLE_CAUSES, counter_widths
from stmoe.bus.csr import CsrBlock, register_map
from stmoe.config import PRESETS, Geometry
from support.counters import set_counters

GEOMETRY = Geometry(PRESETS["tiny"])
MAP = register_map(GEOMETRY)
OKAY, SLVERR = 0, 2


class Host:
    """An AXI4-Lite manager with seeded delays on every channel."""

    def __init__(self, ctx, dut, rng, pause=0.4):
        self.ctx, self.dut, self.rng, self.pause = ctx, dut, rng, pause

    async def _wait(self):
        while self.rng.random() < self.pause:
            await self.ctx.tick()

    async def _offer(self, channel, **payload):
        dut = self.dut
        for name, value in payload.items():
            self.ctx.set(getattr(dut, name), value)
        self.ctx.set(getattr(dut, f"{channel}valid"), 1)
        await self.ctx.tick().until(getattr(dut, f"{channel}ready"))
        self.ctx.set(getattr(dut, f"{channel}valid"), 0)

    async def _answer(self, channel, *names):
        await self._wait()
        values = [getattr(self.dut, name) for name in names]
        self.ctx.set(getattr(self.dut, f"{channel}ready"), 1)
        result = await self.ctx.tick().sample(*values).until(getattr(self.dut, f"{channel}valid"))
        self.ctx.set(getattr(self.dut, f"{channel}ready"), 0)
        return result

    async def write(self, address, value, strobe=15, order=None):
        order = order or self.rng.choice(["aw", "wa", "both"])
        address_beat = {"awaddr": address}
        data_beat = {"wdata": value, "wstrb": strobe}
        if order == "aw":
            await self._offer("aw", **address_beat)
            await self._wait()
            await self._offer("w", **data_beat)
        elif order == "wa":
            await self._offer("w", **data_beat)
            await self._wait()
            await self._offer("aw", **address_beat)
        else:
            for name, bits in (address_beat | data_beat).items():
                self.ctx.set(getattr(self.dut, name), bits)
            self.ctx.set(self.dut.wvalid, 1)
            await self._offer("aw", **address_beat)
            self.ctx.set(self.dut.wvalid, 0)
        return (await self._answer("b", "bresp"))[0]

    async def read(self, address):
        await self._wait()
        await self._offer("ar", araddr=address)
        data, resp = await self._answer("r", "rdata", "rresp")
        return data, resp

    async def counter(self, name):
        low, _ = await self.read(MAP[f"{name}_lo"]["address"])
        high, _ = await self.read(MAP[f"{name}_hi"]["address"])
        return low | high << 32


def run(process, seed=1, geometry=GEOMETRY, pause=0.4):
    dut = CsrBlock(geometry)
    sim = Simulator(dut)
    sim.add_clock(1e-9)

    async def bench(ctx):
        await process(ctx, dut, Host(ctx, dut, random.Random(seed), pause))

    sim.add_testbench(bench)
    sim.run()


def test_every_register_resets_to_the_configuration():
    async def process(ctx, dut, host):
        for name, entry in MAP.items():
            assert await host.read(entry["address"]) == (entry["reset"], OKAY), name
        assert (await host.read(0))[0] == 0x53544D45
        low, high = MAP["hash_lo"]["reset"], MAP["hash_hi"]["reset"]
        assert low | high << 32 == GEOMETRY.config.hash
        for field in ("in_words", "gu_groups", "dn_tiles", "out_groups", "side_words",
                      "blob_beats", "stride", "group", "slots"):
            assert MAP[f"shape_{field}"]["reset"] == getattr(GEOMETRY, field), field
            assert ctx.get(getattr(dut, f"shape_{field}")) == getattr(GEOMETRY, field), field
    run(process, pause=0.1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_writes_follow_a_model_under_random_order_strobes_and_back_pressure(seed):
    async def process(ctx, dut, host):
        rng = host.rng
        model = {name: entry["reset"] for name, entry in MAP.items()}
        names = [name for name in MAP if MAP[name]["address"] < 0x200 and name != "counter_ctrl"]
        for step in range(150):
            name = rng.choice(names)
            entry = MAP[name]
            value, strobe = rng.getrandbits(32), rng.randrange(16)
            resp = await host.write(entry["address"] | rng.randrange(4), value, strobe)
            mask = sum(0xff << 8 * b for b in range(4) if strobe >> b & 1)
            legal = False
            for field in entry["fields"].values():
                legal |= field["access"] != "ro"
                if field["access"] == "rw":
                    bits = ((1 << field["width"]) - 1 << field["lsb"]) & mask
                    model[name] = model[name] & ~bits | value & bits
            where = f"seed {seed}, step {step}, {name}"
            assert resp == (OKAY if legal else SLVERR), where
            other = rng.choice([name, *names])
            assert await host.read(MAP[other]["address"]) == (model[other], OKAY), where
        for name in names:
            for field, entry in MAP[name]["fields"].items():
                if entry["access"] == "rw":
                    member = name if len(MAP[name]["fields"]) == 1 else f"{name}_{field}"
                    want = model[name] >> entry["lsb"] & (1 << entry["width"]) - 1
                    assert ctx.get(getattr(dut, member)) == want, f"seed {seed}, {member}"
    run(process, seed)


def test_unmapped_addresses_answer_slverr():
    async def process(ctx, dut, host):
        last = max(entry["address"] for entry in MAP.values())
        for address in (0x01C, 0x1FC, last + 4, 0xFFC):
            assert await host.write(address, 1) == SLVERR
            assert await host.read(address) == (0, SLVERR)
        assert await host.write(MAP["cycles_total_lo"]["address"], 1) == SLVERR
        assert await host.write(MAP["id"]["address"], 1) == SLVERR
    run(process)


def test_valid_does_not_wait_for_ready_and_responses_hold():
    async def process(ctx, dut, host):
        ctx.set(dut.awaddr, 0x010)
        ctx.set(dut.wstrb, 15)
        ctx.set(dut.awvalid, 1)
        ctx.set(dut.wvalid, 1)
        ctx.set(dut.arvalid, 1)
        ctx.set(dut.araddr, 0)
        await ctx.tick()
        for name in ("aw", "w", "ar"):
            ctx.set(getattr(dut, f"{name}valid"), 0)
        await ctx.tick().repeat(3)
        ctx.set(dut.araddr, 0x1FC)  # must not disturb the held response
        for _ in range(5):
            assert ctx.get(dut.bvalid) and ctx.get(dut.rvalid)
            assert ctx.get(dut.rdata) == 0x53544D45 and ctx.get(dut.rresp) == OKAY
            await ctx.tick()
    run(process)


def test_first_error_holds_until_cleared_and_hardware_wins_over_a_clear():
    async def process(ctx, dut, host):
        async def strike(code, layer, expert, detail):
            for name, value in (("code", code), ("layer", layer), ("expert", expert),
                                ("detail", detail), ("valid", 1)):
                ctx.set(getattr(dut, f"error_{name}"), value)
            await ctx.tick()
            ctx.set(dut.error_valid, 0)

        async def record():
            return [(await host.read(MAP[name]["address"]))[0]
                    for name in ("error", "error_layer", "error_expert", "error_detail")]

        await strike(3, 7, 200, 0xdeadbeef)
        await strike(5, 1, 1, 1)
        assert await record() == [3, 7, 200, 0xdeadbeef]
        assert ctx.get(dut.error) == 3
        assert await host.write(MAP["error"]["address"], 0xff, strobe=0) == OKAY
        assert (await record())[0] == 3
        assert await host.write(MAP["error"]["address"], 3) == OKAY
        assert (await record())[0] == 0
        await strike(2, 4, 0, 9)
        # An error held on the input through the clearing write is latched in its place.
        for name, value in (("code", 6), ("layer", 9), ("valid", 1)):
            ctx.set(getattr(dut, f"error_{name}"), value)
        assert await host.write(MAP["error"]["address"], 0xff) == OKAY
        assert ctx.get(dut.error) == 6
        ctx.set(dut.error_valid, 0)
        assert (await record())[:2] == [6, 9]
    run(process)


def test_counters_add_freeze_clear_and_read_coherently():
    widths = counter_widths(GEOMETRY)
    rng = random.Random(7)

    async def process(ctx, dut, host):
        model = dict.fromkeys(widths, 0)
        for _ in range(200):
            for name, width in widths.items():
                value = rng.getrandbits(width)
                model[name] += value
                ctx.set(getattr(dut, f"inc_{name}"), value)
            await ctx.tick()
        for name in widths:
            ctx.set(getattr(dut, f"inc_{name}"), 0)
        for name in widths:
            assert await host.counter(name) == model[name], name
        await host.write(MAP["counter_ctrl"]["address"], 2)
        ctx.set(dut.inc_tokens, 1)
        await ctx.tick().repeat(5)
        ctx.set(dut.inc_tokens, 0)
        assert await host.counter("tokens") == model["tokens"]
        await host.write(MAP["counter_ctrl"]["address"], 1)
        assert await host.read(MAP["counter_ctrl"]["address"]) == (0, OKAY)
        for name in widths:
            assert await host.counter(name) == 0, name
    run(process, pause=0)


def test_a_high_word_read_is_of_the_time_of_the_low_word():
    async def process(ctx, dut, host):
        await set_counters(ctx, dut.bank, {"beats_link": (1 << 32) - 1000})
        ctx.set(dut.inc_beats_link, 1)
        seen = []
        for _ in range(40):
            seen.append(await host.counter("beats_link"))
        assert seen == sorted(seen), seen
        assert seen[0] < 1 << 32 <= seen[-1], seen
        assert all(abs(value - (1 << 32)) < 5000 for value in seen), seen
    run(process, seed=3)


def test_low_words_of_counters_alone_wait_and_show_what_was_cleared_or_frozen_before():
    async def process(ctx, dut, host):
        async def cycles(name):
            ctx.set(dut.araddr, MAP[name]["address"])
            ctx.set(dut.arvalid, 1)
            ctx.set(dut.rready, 1)
            await ctx.tick()
            ctx.set(dut.arvalid, 0)
            for cycle in range(1, 200):
                if ctx.get(dut.rvalid):
                    value = ctx.get(dut.rdata)
                    await ctx.tick()
                    return cycle, value
                await ctx.tick()
            raise AssertionError(f"{name} is not answered")

        ctx.set(dut.inc_cycles_total, 1)
        others = {(await cycles(name))[0] for name in ("id", "threshold", "tokens_hi")}
        assert others == {3}
        waits, names = [], list(counter_widths(GEOMETRY))
        for name in names:
            wait, value = await cycles(f"{name}_lo")
            assert wait <= 2 * len(names) + 6 and (value == 0) == (name != "cycles_total"), name
            waits.append(wait)
        assert sum(waits) < 25 * len(names), "one after the other, each is met"
        for number in range(1, 30):
            await host.write(MAP["counter_ctrl"]["address"], 1)
            await ctx.tick().repeat(number)
            wait, value = await cycles("cycles_total_lo")
            assert value < number + wait + 4, "the clear that was answered is seen"
        await host.write(MAP["counter_ctrl"]["address"], 2)
        frozen = {(await cycles("cycles_total_lo"))[1] for _ in range(3)}
        assert len(frozen) == 1
    run(process, pause=0)


def test_cycle_causes_have_counters():
    assert set(CYCLE_CAUSES) == {
        name.removeprefix("cycles_") for name in counter_widths(GEOMETRY)} & set(CYCLE_CAUSES)


@pytest.mark.parametrize("preset", ["edge", "server"])
def test_map_follows_other_configurations(preset):
    g = Geometry(PRESETS[preset])
    entries = register_map(g)
    assert entries["shape_blob_beats"]["reset"] == g.blob_beats
    assert entries["shape_slots"]["fields"]["value"]["width"] == g.slot_bits + 1
    assert {name: entry["address"] for name, entry in entries.items()} == {
        name: entry["address"] for name, entry in MAP.items()}


def test_the_model_comparison_can_fail():
    async def process(ctx, dut, host):
        await host.write(MAP["threshold"]["address"], 9)
        assert await host.read(MAP["threshold"]["address"]) == (8, OKAY)
    with pytest.raises(AssertionError):
        run(process)
