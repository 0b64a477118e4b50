"""The CRC of tiles against zlib, at every width of the bus."""

import zlib

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from stmoe.prefetch import crc
from stmoe.prefetch.crc import TileCheck

WIDTHS = [32, 64, 128, 256, 512]


def verdicts(width, bursts, beats):
    """(burst, good) in order, and cycles in which they came, of (burst, first, last, data)."""
    dut, found, cycles = TileCheck(width, bursts), [], []
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def run(ctx):
        for cycle in range(len(beats) + dut.LATENCY):
            given_now = beats[cycle] if cycle < len(beats) else None
            ctx.set(dut.beat.valid, given_now is not None)
            if given_now is not None:
                for name, value in zip(("burst", "first", "last", "data"), given_now, strict=True):
                    ctx.set(dut.beat[name], value)
            await ctx.tick()
            if ctx.get(dut.verdict.valid):
                found.append((ctx.get(dut.verdict.burst), bool(ctx.get(dut.verdict.good))))
                cycles.append(cycle + 1)
    sim.add_testbench(run)
    sim.run()
    return found, cycles


def tile(content, size):
    """Beats of a tile, the CRC by zlib."""
    whole = content + zlib.crc32(content).to_bytes(size, "little")
    return [int.from_bytes(whole[at:at + size], "little") for at in range(0, len(whole), size)]


@st.composite
def traffic(draw, width):
    """Tiles of several bursts, interleaved beat by beat; some with flipped bits."""
    size = width // 8
    open_, order, want = {}, [], {}
    for burst in range(draw(st.integers(1, 4))):
        words = tile(draw(st.binary(min_size=size, max_size=4 * size).map(
            lambda raw: raw[:len(raw) // size * size])), size)
        flips = draw(st.dictionaries(st.integers(0, len(words) - 1),
                                     st.integers(1, 2**width - 1), max_size=2))
        open_[burst] = [(burst, at == 0, at == len(words) - 1, word ^ flips.get(at, 0))
                        for at, word in enumerate(words)]
        want[burst] = not flips
    while open_:
        burst = draw(st.sampled_from(sorted(open_)))
        order.append(open_[burst].pop(0))
        if not open_[burst]:
            del open_[burst]
        if draw(st.booleans()):
            order.append(None)
    return order, want


@pytest.mark.parametrize("width", WIDTHS)
def test_a_tile_is_good_if_and_only_if_zlib_says_so(width):
    @settings(max_examples=25)
    @given(traffic(width))
    def check(case):
        order, want = case
        found, cycles = verdicts(width, 4, order)
        assert dict(found) == want and len(found) == len(want)
        ends = [at for at, beat in enumerate(order) if beat and beat[2]]
        assert [cycle - at for cycle, at in zip(cycles, ends, strict=True)] == [
            TileCheck.LATENCY] * len(ends)
    check()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_single_bit_is_seen(width):
    size = width // 8
    words = tile(bytes(range(1, 1 + size)), size)
    beats, want = [], []
    for flipped in [None, *range(2 * width)]:
        for at, word in enumerate(words):
            flip = 1 << flipped % width if flipped is not None and flipped // width == at else 0
            beats.append((0, at == 0, at == 1, word ^ flip))
        want.append((0, flipped is None))
    assert verdicts(width, 1, beats)[0] == want


@given(st.binary(max_size=64))
def test_the_register_is_zlibs(content):
    assert crc.feed(crc.START, int.from_bytes(content, "little"), 8 * len(content)) ^ crc.START == (
        zlib.crc32(content))


def test_another_polynomial_is_noticed(monkeypatch):
    monkeypatch.setattr(crc, "POLYNOMIAL", 0x82F63B78)  # Castagnoli's
    assert verdicts(64, 1, [(0, at == 0, at == 2, word)
                            for at, word in enumerate(tile(bytes(16), 8))])[0] == [(0, False)]
