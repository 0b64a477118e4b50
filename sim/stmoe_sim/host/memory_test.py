"""Tests of expert memory over the link: data lines, address lines, every cell, retention."""

import time
from collections.abc import Callable

import numpy as np

from .device import Device

__all__ = ["MemoryFault", "test_address", "test_cells", "test_data"]

Progress = Callable[[int, int], None]


class MemoryFault(RuntimeError):
    """Memory returned other than was written; the message names address and bits."""


def _bits(value: int) -> str:
    return ", ".join(str(bit) for bit in range(value.bit_length()) if value >> bit & 1)


def _compare(wrote: bytes, got: bytes, base: int, what: str) -> None:
    """:class:`MemoryFault` of the first difference; bits that differ the same way everywhere are
    called stuck."""
    if wrote == got:
        return
    want, have = np.frombuffer(wrote, np.uint8), np.frombuffer(got, np.uint8)
    wrong = np.flatnonzero(want != have)
    at = int(wrong[0])
    bits = int(want[at] ^ have[at])
    kind = "read as 1" if int(have[at]) & bits == bits else (
        "read as 0" if not int(have[at]) & bits else "differ")
    raise MemoryFault(
        f"{what}: byte 0x{base + at:x} holds 0x{int(have[at]):02x}, 0x{int(want[at]):02x} was "
        f"written: bit {_bits(bits)} {kind}; {len(wrong)} of {len(wrote)} bytes differ")


def _expect(device: Device, base: int, content: bytes, what: str) -> None:
    _compare(content, device.read_memory(base, len(content)), base, what)


def test_data(device: Device) -> str:
    """Walking ones and zeros over a beat at the first and the last address."""
    beat = device.identity.axi_bytes
    walk = b"".join((1 << bit).to_bytes(beat, "little") for bit in range(8 * beat))
    for base in (0, device.identity.memory_bytes - len(walk)):
        for content in (walk, bytes(byte ^ 0xFF for byte in walk)):
            device.write_memory(base, content)
            _expect(device, base, content, "data lines")
    return f"{8 * beat} data lines"


def test_address(device: Device) -> str:
    """A different beat at every power of two: an address line that is stuck or joined to another
    makes two of them one."""
    beat, size = device.identity.axi_bytes, device.identity.memory_bytes
    places = [0]
    while (step := beat << len(places) - 1) < size:
        places.append(step)
    marks = [(0x5A0000 + number).to_bytes(beat, "little") for number in range(len(places))]
    for place, mark in zip(places, marks, strict=True):
        device.write_memory(place, mark)
    for place, mark in zip(places, marks, strict=True):
        got = device.read_memory(place, beat)
        if got != mark:
            other = marks.index(got) if got in marks else None
            where = "of no place that was written" if other is None else (
                f"of 0x{places[other]:x}: address line {max(place, places[other]).bit_length() - 1}"
                " does not count")
            raise MemoryFault(f"address lines: 0x{place:x} holds the mark {where}")
    return f"{len(places) - 1} address lines"


def test_cells(device: Device, size: int, seconds: float, seed: int,
               progress: Progress = lambda done, of: None) -> str:
    """Seeded random data and their inverse in the first ``size`` bytes, read once after
    ``seconds`` without an access."""
    rng = np.random.default_rng((seed, 0x3E))
    content = rng.bytes(size)
    inverse = (~np.frombuffer(content, np.uint8)).tobytes()

    def part(number: int) -> Callable[[int], None]:
        return lambda done: progress(number * size + done, 4 * size)
    for number, pattern in enumerate((content, inverse)):
        device.write_memory(0, pattern, part(2 * number))
        if number == 0:
            time.sleep(seconds)
        got = device.read_memory(0, size, part(2 * number + 1))
        _compare(pattern, got, 0, "cells" if number else f"cells, after {seconds:g} s")
    return f"{size:,} bytes of {device.identity.memory_bytes:,}, kept for {seconds:g} s"
