"""The SDRAM controller against a part that holds it to its data sheet."""

import dataclasses
import gc
import random

import pytest
from amaranth.hdl import Cat, Module, ResetInserter, Signal

from stmoe.boards.sdram.banks import Command
from stmoe.boards.sdram.controller import SdramController
from stmoe.boards.sdram.part import SDRAM_256M
from stmoe.config import PRESETS, ConfigError, Geometry
from support.sdram_bench import PART, Bench
from support.sdram_model import (
    ACTIVATE,
    MODE,
    PRECHARGE,
    READ,
    REFRESH,
    WRITE,
    SdramFault,
    SdramModel,
)

CONFIG = PRESETS["tiny"].replace(axi_addr_bits=22, outstanding=4, predictor="none", pes=1)
GEOMETRY = Geometry(CONFIG)


def traffic(rng, beat, bursts=14, most=40):
    """Writes all over the part, some of them masked, and reads of the same; by address, bytes."""
    writes, memory = [], {}
    for _ in range(bursts):
        beats = rng.choice([1, 2, 3, 16, most])
        page = rng.randrange(PART.size // 4096) * 4096
        address = page + beat * rng.randrange(4096 // beat - beats + 1)
        values = [rng.getrandbits(8 * beat) for _ in range(beats)]
        strobes = [rng.choice([(1 << beat) - 1, rng.getrandbits(beat)]) for _ in range(beats)]
        writes.append((address, values, strobes))
        for at, (value, strobe) in enumerate(zip(values, strobes, strict=True)):
            for lane in range(beat):
                if strobe >> lane & 1:
                    memory[address + at * beat + lane] = value >> 8 * lane & 255
    return writes, [(a, len(v), i % 4) for i, (a, v, _) in enumerate(writes)], memory


def check(results, reads, memory, beat):
    for (got, response), (address, beats, _) in zip(results, reads, strict=True):
        assert response == 0 and len(got) == beats
        for at, value in enumerate(got):
            for lane in range(beat):
                here = address + at * beat + lane
                assert value >> 8 * lane & 255 == memory.get(here, 0), hex(here)


@pytest.mark.parametrize(("bits", "stall", "mhz"), [
    (64, 0.0, 40), (64, 0.4, 40), (32, 0.2, 40), (128, 0.2, 40), (64, 0.0, 100), (64, 0.2, 25)])
def test_what_was_written_is_read(bits, stall, mhz):
    config = CONFIG.replace(axi_data_bits=bits)
    rng = random.Random(bits + mhz)
    writes, reads, memory = traffic(rng, bits // 8)
    bench = Bench(Geometry(config), seed=mhz, stall=stall, clock_hz=mhz * 1_000_000)
    results, answers, _ = bench.run(writes, reads)
    check(results, reads, memory, bits // 8)
    assert answers == [0] * len(writes)
    assert bench.model.counts[REFRESH] > 10


BROKEN = {  # what the controller is made for, against what the part is; the rule that says so
    "tRCD": {"rcd": 1}, "tRP": {"rp": 1}, "tRFC": {"rfc": 1},
    "tREFI": {"refresh": 9_000}, "POWER-UP": {"power_up": 1_000},
    "INITIALISATION": {"refreshes": 7}}
STRICTER = {"tRC": {"rc": 130}, "tRAS: PRECHARGE": {"ras": 200}, "tMRD": {"mrd": 90},
            "tWR": {"wr": 40}, "tRRD": {"rrd": 35}, "MODE": {"clock_least": 11},
            "tRAS: a row is open": {"ras_most": 100}}


def run(**changes):
    rng = random.Random(3)
    writes, reads, memory = traffic(rng, 8)
    bench = Bench(GEOMETRY, clock_hz=100_000_000, **changes)
    results, _, _ = bench.run(writes, reads)
    check(results, reads, memory, 8)


@pytest.mark.parametrize(("rule", "changes"), [
    *((rule, {"part": dataclasses.replace(PART, **change), "real": PART})
      for rule, change in BROKEN.items()),
    *((rule, {"real": dataclasses.replace(PART, **change)}) for rule, change in STRICTER.items())])
def test_a_time_that_is_not_kept_is_named(rule, changes):
    with pytest.raises(SdramFault, match=f"^{rule}"):
        run(**changes)


def test_words_taken_at_a_wrong_cycle_are_seen():
    for capture in (0, 2):
        with pytest.raises(AssertionError, match=r"0x|assert"):
            run(capture=capture)


class Mistaken(SdramController):
    """Sets its mode as a latency of 3, and believes in 2."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(Cat(self.we, self.cas, self.ras) == Command.MODE):
            m.d.comb += self.a.eq(0x32)
        return m


def test_another_latency_than_that_of_the_mode_is_seen():
    with pytest.raises(AssertionError):
        run(controller=Mistaken)


COMMANDS = {"A": ACTIVATE, "R": READ, "W": WRITE, "P": PRECHARGE, "F": REFRESH, "M": MODE, ".": 0,
            "D": 0}


@pytest.mark.parametrize(("commands", "rule"), [
    ("A..A", "BANK: ACTIVATE of an open"), ("R", "BANK: a closed"), ("A..F", "BANK: REFRESH with"),
    ("A..R.R", "BURST: a burst of reads"), ("A..wdwdd", "BURST: a burst of writes"),
    ("A..wdP", "tWR: PRECHARGE within"), ("A.....R.P", "BURST: PRECHARGE within"),
    ("A..R.......wd.", "DATA: a word that is to be written is not driven"),
    ("A..R..d", "DATA: both sides drive"), ("P..m", "MODE: 0x")])
def test_the_part_knows_what_it_is_told(commands, rule):
    """Lower case: with the data pins driven, MODE with a mode that there is not."""
    model = SdramModel(dataclasses.replace(PART, power_up=0, refreshes=0), 25.0)
    with pytest.raises(SdramFault, match=rule):
        for letter in f"P......M......{commands}............":
            name = letter.upper()
            model.step(COMMANDS[name], 0, {"P": 1 << 10, "M": 0x22 + 0x40 * (letter == "m")}.get(
                name, 0), 0, 0 if letter in "wd" else None)


def test_bursts_stream_a_word_per_clock():
    """64-beat bursts, rows of 16 beats: at most 1 % beyond refresh and the first row."""
    bench = Bench(GEOMETRY, dataclasses.replace(PART, refresh=7_800))
    reads = [(512 * i, 64, i % 4) for i in range(16)]
    results, _, cycles = bench.run([], reads)
    assert len(results) == 16
    refreshes = cycles * bench.period / 7_800
    words = 16 * 64 * 4
    assert words <= cycles <= 1.01 * words + 12 * refreshes + 20


def test_beyond_the_part_is_an_error_and_changes_nothing():
    bench = Bench(GEOMETRY)
    results, answers, _ = bench.run(
        [(0, [7] * 2, [255] * 2), (PART.size, [1, 2], [255] * 2)], [(0, 2, 0), (PART.size, 2, 1)])
    assert answers == [0, 3]
    assert results[0] == ([7, 7], 0) and results[1][1] == 3


class ResetOnce(SdramController):
    """Is reset for 16 cycles in the middle of what it does, 3,000 cycles after the start."""

    def elaborate(self, platform):
        m = Module()
        held, time = Signal(), Signal(16)
        m.d.sync += time.eq(time + 1)
        m.d.comb += held.eq((time >= 3000) & (time < 3016))
        m.submodules.inner = ResetInserter(held)(super().elaborate(platform))
        return m


def test_a_reset_keeps_the_contents():
    bench = Bench(GEOMETRY, controller=ResetOnce)
    writes = [(128 * i, [i * j for j in range(16)], [255] * 16) for i in range(20)]

    async def wait(ctx):
        while bench.cycle < 3200:
            await ctx.tick()
        await bench.until(ctx, bench.dut.controller.ready)
    results, _, _ = bench.run(writes, [(128 * i, 16, 0) for i in range(20)], between=wait)
    assert [got for got, _ in results] == [values for _, values, _ in writes]
    assert bench.model.counts[MODE] == 2 and bench.cycle > 3200


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_sizes_and_clocks_that_do_not_fit_are_named():
    assert SDRAM_256M.size == 32 << 20
    with pytest.raises(ConfigError, match=r"clock_hz must be at most 100000000"):
        SDRAM_256M.cycles(133_000_000)
    with pytest.raises(ConfigError, match=r"axi_data_bits must be 2, 4 or 8 words"):
        Bench(Geometry(CONFIG.replace(axi_data_bits=256, rows=8)))
    gc.collect()
