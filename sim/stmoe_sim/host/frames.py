"""Frames of the host link: docs/host-link.md."""

import struct
import zlib
from dataclasses import dataclass

from stmoe.boards.protocol import PROTOCOL, REPLY, Opcode, Status

__all__ = ["OVERHEAD", "PROTOCOL", "Frame", "FrameReader", "Identity", "Opcode", "Status",
           "cobs_decode", "cobs_encode", "encode", "parse_identity"]

BLOCK = 254  # most bytes behind one code of COBS
OVERHEAD = 6  # bytes of a request beside its payload, unencoded: sequence number, opcode, CRC
LONGEST = 1 << 16  # bytes between zeros; beyond them a line carries no frames


def cobs_encode(frame: bytes) -> bytes:
    """``frame`` (not empty) without zeros."""
    out, parts = bytearray(), frame.split(b"\0")
    for number, part in enumerate(parts):
        while len(part) > BLOCK or (len(part) == BLOCK and number < len(parts) - 1):
            out += b"\xff" + part[:BLOCK]
            part = part[BLOCK:]
        if len(part) == BLOCK:
            out += b"\xff" + part
        elif part or number < len(parts) - 1 or len(frame) % BLOCK or frame[-1] == 0:
            out += bytes([len(part) + 1]) + part
    return bytes(out)


def cobs_decode(line: bytes) -> bytes | None:
    """The inverse of :func:`cobs_encode`; None for what cannot be a frame."""
    out, at = bytearray(), 0
    while at < len(line):
        code = line[at]
        part = line[at + 1:at + code]
        if code == 0 or 0 in part or len(part) != code - 1:
            return None
        out += part
        at += code
        if code != 0xFF and at < len(line):
            out.append(0)
    return bytes(out)


def encode(sequence: int, opcode: int, payload: bytes = b"") -> bytes:
    """A request for the line, its delimiter included."""
    body = bytes([sequence, opcode]) + payload
    return cobs_encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


@dataclass(frozen=True)
class Frame:
    """A reply whose CRC was right."""

    sequence: int
    opcode: int
    status: int
    data: bytes


class FrameReader:
    """Frames out of the bytes of a line.

    Attributes
    ----------
    bad: pieces between zeros that were no frame.
    """

    def __init__(self) -> None:
        self.rest = bytearray()
        self.bad = 0

    def feed(self, line: bytes) -> list[Frame]:
        """The replies that end within ``line``."""
        *pieces, rest = (bytes(self.rest) + line).split(b"\0")
        self.rest = bytearray(rest[-LONGEST:])
        frames = []
        for piece in filter(None, pieces):
            frame = cobs_decode(piece)
            if (frame is None or len(frame) < 7 or not frame[1] & REPLY
                    or zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "little")):
                self.bad += 1
                continue
            frames.append(Frame(frame[0], frame[1] & ~REPLY, frame[2], frame[3:-4]))
        return frames


_IDENTITY = struct.Struct("<BBIQHHBHBBBIIQB")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a board says of itself in the reply to HELLO, in the order of the bytes.

    Parameters
    ----------
    protocol: version of the link. expected: sequence number of the next request.
    session: what the last host to open the link chose, 0 since reset.
    config_hash: of the accelerator's configuration.
    write_bytes, read_bytes: most data of a memory write, and of a reply.
    window: requests that may be unanswered. buffer_bytes: that they may have, without CRCs.
    axi_bytes, lanes, rows: of a memory word, an activation word; outputs of a result beat.
    clock_hz, baud: rates of the board. memory_bytes: of expert memory.
    busy: a request waits or is executed.
    """

    protocol: int
    expected: int
    session: int
    config_hash: int
    write_bytes: int
    read_bytes: int
    window: int
    buffer_bytes: int
    axi_bytes: int
    lanes: int
    rows: int
    clock_hz: int
    baud: int
    memory_bytes: int
    busy: int


def parse_identity(data: bytes) -> Identity | None:
    """The reply to HELLO, None if it is no such."""
    if len(data) != _IDENTITY.size:
        return None
    return Identity(**dict(zip(Identity.__dataclass_fields__, _IDENTITY.unpack(data),
                               strict=True)))
