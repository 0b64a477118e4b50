"""The line, bit by bit: rates that are off, pulses, stop bits that are low."""

import gc
import random

import pytest
from amaranth.sim import Simulator

from stmoe.boards.uart import UartReceiver, UartTransmitter
from stmoe.config import ConfigError

BAUD = 3_000_000


def waveform(content, cycles, *, gap=0.0, stop=1):
    """The line per clock cycle, each bit ``cycles`` long (a fraction), ``gap`` bits between."""
    edges, at = [], 3.3
    for byte in content:
        for bit in (0, *((byte >> i) & 1 for i in range(8)), stop):
            edges.append((at, bit))
            at += cycles
        edges.append((at, 1))
        at += gap * cycles
    line, level = [], 1
    for cycle in range(int(at + 3 * cycles)):
        while edges and edges[0][0] <= cycle:
            level = edges.pop(0)[1]
        line.append(level)
    return line


def receive(clock, line, baud=BAUD):
    """Bytes of ``line``, None where one was broken."""
    dut = UartReceiver(clock, baud)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    got = []

    async def drive(ctx):
        for level in line:
            ctx.set(dut.rx, level)
            await ctx.tick()
            if ctx.get(dut.byte.valid):
                got.append(ctx.get(dut.byte.data))
            if ctx.get(dut.byte.broken):
                got.append(None)
    sim.add_testbench(drive)
    sim.run()
    return got


CONTENT = [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80, *random.Random(3).randbytes(12)]


@pytest.mark.parametrize("error", [-0.02, 0.0, 0.02])
@pytest.mark.parametrize("clock", [25_000_000, 50_000_000, 100_000_000])
def test_bytes_back_to_back_at_a_rate_that_is_off(clock, error):
    line = waveform(CONTENT, clock / BAUD * (1 + error))
    assert receive(clock, line) == CONTENT


def test_a_rate_that_is_far_off_is_not_received():
    """The bench can fail."""
    assert receive(25_000_000, waveform(CONTENT, 25 / 3 * 1.09)) != CONTENT


def test_a_pulse_within_a_bit_changes_nothing():
    clock = 50_000_000
    cycles = clock / BAUD
    line = waveform(CONTENT, cycles)
    rng, flipped = random.Random(1), list(line)
    for bit in range(10 * len(CONTENT)):  # none at the edges, which are no pulses
        flipped[round(3.3 + (bit + rng.uniform(0.2, 0.8)) * cycles)] ^= 1
    assert flipped != line and receive(clock, flipped) == CONTENT


def test_a_pulse_on_the_idle_line_is_no_byte():
    clock, line = 50_000_000, [1] * 400
    for at, length in ((20, 1), (100, 3), (200, 5)):  # of 16.7 cycles per bit
        line[at:at + length] = [0] * length
    assert receive(clock, line + waveform([0x5A], clock / BAUD)) == [0x5A]


def test_a_low_stop_bit_is_told_and_the_next_byte_is_whole():
    clock = 25_000_000
    line = (waveform([0x12], clock / BAUD) + waveform([0x34], clock / BAUD, stop=0)
            + [1] * 4 + waveform([0x56], clock / BAUD))
    assert receive(clock, line) == [0x12, None, 0x56]


def test_a_line_held_low_is_one_loss():
    clock = 25_000_000
    assert receive(clock, [1] * 5 + [0] * 600 + [1] * 5 + waveform([7], 25 / 3)) == [None, 7]


@pytest.mark.parametrize("clock", [25_000_000, 48_000_000, 100_000_000])
def test_what_is_sent_has_its_edges_in_place(clock):
    dut = UartTransmitter(clock, BAUD)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    line = []

    async def drive(ctx):
        for byte in CONTENT:
            ctx.set(dut.byte.payload, byte)
            ctx.set(dut.byte.valid, 1)
            await ctx.tick().until(dut.byte.ready)
        ctx.set(dut.byte.valid, 0)
        await ctx.tick().until(~dut.active)

    async def look(ctx):
        async for _, _, level in ctx.tick().sample(dut.tx):
            line.append(level)
    sim.add_testbench(drive)
    sim.add_testbench(look, background=True)
    sim.run()
    cycles = clock / BAUD
    start = line.index(0)
    bits = [bit for byte in CONTENT for bit in (0, *((byte >> i) & 1 for i in range(8)), 1)]
    edges = [n for n in range(1, len(bits)) if bits[n] != bits[n - 1]]
    changes = [at - start for at in range(start + 1, len(line)) if line[at] != line[at - 1]]
    assert len(edges) == len(changes)  # no gap between bytes
    for bit, change in zip(edges, changes, strict=True):
        assert abs(change - bit * cycles) <= 1.01
    assert receive(clock, [1] * 4 + line + [1] * 40) == CONTENT


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_a_rate_that_the_clock_does_not_carry_is_named():
    with pytest.raises(ConfigError, match=r"baud must be 1 to 3000000, .* not 3000001"):
        UartReceiver(24_000_000, 3_000_001)
    gc.collect()
