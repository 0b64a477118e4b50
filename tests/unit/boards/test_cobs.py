"""Frames to bytes and back, against an encoder written from the definition."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.boards.cobs import CobsDecoder, CobsEncoder
from stmoe_sim.host.frames import cobs_decode, cobs_encode

RNG = random.Random(5)
FRAMES = [
    b"\0", b"\0\0", b"\1", b"a\0", b"\0a", b"a\0\0b", bytes(range(1, 254)), bytes(range(1, 255)),
    bytes(range(1, 256)), bytes(range(1, 255)) + b"\0", b"\0" + bytes(range(1, 255)),
    bytes(254), bytes(range(256)), bytes(RNG.choice([0, 0, 1, 255]) for _ in range(300)),
    RNG.randbytes(600), bytes(RNG.randrange(1, 256) for _ in range(1040))]


def encode(frames, stall):
    dut = CobsEncoder()
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    rng, got, cycles = random.Random(2), bytearray(), [0]

    async def drive(ctx):
        for frame in frames:
            for at, byte in enumerate(frame):
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(dut.frame.payload, {"data": byte, "last": at == len(frame) - 1})
                ctx.set(dut.frame.valid, 1)
                await ctx.tick().until(dut.frame.ready)
                ctx.set(dut.frame.valid, 0)
        while got.count(0) < len(frames):
            await ctx.tick()

    async def take(ctx):
        held = None
        while True:
            ready = rng.random() >= stall
            ctx.set(dut.byte.ready, ready)
            _, _, valid, byte = await ctx.tick().sample(dut.byte.valid, dut.byte.payload)
            cycles[0] += 1
            assert held is None or (valid and byte == held), "changed while stalled"
            held = byte if valid and not ready else None
            if valid and ready:
                got.append(byte)
    sim.add_testbench(drive)
    sim.add_testbench(take, background=True)
    sim.run()
    return bytes(got), cycles[0]


def decode(line):
    """Frames of ``line``, None for one that is known to be bad; -1 in ``line`` is a broken byte."""
    dut = CobsDecoder()
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    frames, frame = [], bytearray()

    async def drive(ctx):
        nonlocal frame
        for byte in [*line, None]:
            ctx.set(dut.byte, {"valid": byte is not None and byte >= 0, "broken": byte == -1,
                               "data": max(0, byte or 0)})
            await ctx.tick()
            if ctx.get(dut.frame.valid):
                if ctx.get(dut.frame.end):
                    frames.append(bytes(frame) if ctx.get(dut.frame.good) else None)
                    frame = bytearray()
                else:
                    frame.append(ctx.get(dut.frame.data))
    sim.add_testbench(drive)
    sim.run()
    return frames


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_frames_are_encoded_as_defined(stall):
    got, cycles = encode(FRAMES, stall)
    assert got == b"".join(cobs_encode(frame) + b"\0" for frame in FRAMES)
    if not stall:
        assert cycles <= 2 * len(got) + 3 * sum(frame.count(0) + 5 for frame in FRAMES)


def test_frames_are_decoded():
    line = b"\0\0" + b"".join(cobs_encode(frame) + b"\0" for frame in FRAMES)
    assert decode(line) == FRAMES


def test_what_is_cut_or_broken_is_bad_and_the_next_frame_is_good():
    line = [3, 1, 0, 2, -1, 7, 0, *cobs_encode(b"a\0b"), 0, -1, 0, *cobs_encode(b"c"), 0]
    assert decode(line) == [None, None, b"a\0b", None, b"c"]


def test_the_host_decodes_what_it_encodes_and_refuses_the_rest():
    for frame in FRAMES:
        assert 0 not in cobs_encode(frame) and cobs_decode(cobs_encode(frame)) == frame
    for bad in (b"\3\1", b"\1\0\1", b"\xff" + bytes(range(1, 200))):
        assert cobs_decode(bad) is None
