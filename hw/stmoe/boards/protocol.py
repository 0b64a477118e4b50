"""Numbers of the host link: docs/host-link.md."""

from enum import IntEnum

from amaranth.hdl import Cat, Const, Value

from ..prefetch.crc import START, feed, residue

__all__ = ["BUFFER_BYTES", "GOOD_CRC", "PROTOCOL", "READ_BYTES", "REPLY", "START", "WINDOW",
           "WRITE_BYTES", "Opcode", "Status", "crc_step"]

PROTOCOL = 1  # version
WINDOW = 4  # requests that may be unanswered
WRITE_BYTES = 1024  # most data of a memory write
READ_BYTES = 512  # most data of a reply
BUFFER_BYTES = 4096  # that wait to be executed, less the first two of each and CRCs
REPLY = 0x80  # bit of a reply's opcode
GOOD_CRC = residue(32)  # the register behind a good frame


class Opcode(IntEnum):
    """Second byte of a frame."""

    HELLO = 1
    REG_READ = 2
    REG_WRITE = 3
    MEM_READ = 4
    MEM_WRITE = 5
    COMMAND = 6
    ACTIVATIONS = 7
    RESULT = 8
    RESET = 9
    NAK = 0x7F


class Status(IntEnum):
    """Third byte of a reply."""

    OK = 0
    BUS = 1  # AXI answered with an error
    BUSY = 2  # no room for the words now; none was taken
    MALFORMED = 3  # unknown opcode, or a length or an alignment that it does not have
    NOT_YET = 4  # no result came in time
    MORE = 5  # a part of a result, not its end
    FAILED = 6  # a result that the accelerator marked as failed


def crc_step(state: Value, byte: Value) -> Value:
    """The CRC-32 register (32 bits, from ``START``) behind one more byte."""
    columns = [feed(0, 1 << position, 8) for position in range(8)]
    mixed = state[:8] ^ byte
    return Cat(
        (mixed & Const(sum((column >> bit & 1) << at for at, column in enumerate(columns)), 8)
         ).xor() ^ (state[bit + 8] if bit < 24 else 0)
        for bit in range(32))
