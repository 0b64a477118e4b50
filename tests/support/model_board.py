"""A board of Python: what docs/host-link.md says of a device, behind a transport in memory."""

import struct
import time
import zlib
from collections import deque

from stmoe_sim.host.frames import Opcode, Status, cobs_decode, cobs_encode

__all__ = ["ModelBoard"]

WINDOW, WRITE, READ, BUFFER = 4, 1024, 512, 4096


class ModelBoard:
    """A transport with a board behind it, and the faults of both.

    ``down``, ``up``: functions on the bytes of a direction, to lose or change some.
    ``absent``: seconds for which the port is not there once :meth:`pull` was called.
    """

    name = "model"

    def __init__(self, config_hash=0, *, memory=1 << 14, down=lambda line: line,
                 up=lambda line: line):
        self.hash, self.down, self.up = config_hash, down, up
        self.memory = bytearray(memory)
        self.registers, self.writes = {}, []
        self.hangs = self.opened = False
        self.gone_until = 0.0
        self.pulls = 0
        self.power_on()

    def power_on(self):
        """As a reset, or a bitstream loaded anew, leaves the link."""
        self.expected = self.session = 0
        self.waiting, self.kept, self.rest, self.out = deque(), {}, b"", bytearray()
        self.said = False

    def pull(self, seconds):
        self.gone_until = time.monotonic() + seconds
        self.opened, self.out, self.rest = False, bytearray(), b""
        self.pulls += 1

    # The transport.
    def open(self):
        if time.monotonic() < self.gone_until:
            raise OSError(2, "No such file or directory")
        self.opened = True

    def close(self):
        self.opened = False

    def read(self, seconds):
        if not self.opened:
            raise OSError(5, "Input/output error")
        if not self.out:
            time.sleep(min(seconds, 0.002))
        line, self.out = bytes(self.out), bytearray()
        return self.up(line)

    def write(self, line):
        if not self.opened:
            raise OSError(5, "Input/output error")
        *pieces, self.rest = (self.rest + self.down(line)).split(b"\0")
        for piece in filter(None, pieces):
            self.receive(cobs_decode(piece))
        while self.waiting and not self.hangs:
            self.execute(*self.waiting.popleft())

    # The board.
    def send(self, sequence, opcode, status, content=b""):
        body = bytes([sequence, opcode | 0x80, status]) + content
        self.out += cobs_encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"

    def receive(self, frame):
        if (frame is None or len(frame) < 6
                or zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "little")):
            self.said = True
            self.send(self.expected, Opcode.NAK, 0)
            return
        sequence, opcode, payload = frame[0], frame[1], frame[2:-4]
        if opcode == Opcode.HELLO:
            nonce = int.from_bytes(payload, "little") if len(payload) == 4 else 0
            self.session = nonce or self.session
            self.send(self.expected, opcode, 0, struct.pack(
                "<BBIQHHBHBBBIIQB", 1, self.expected, self.session, self.hash, WRITE, READ, WINDOW,
                BUFFER, 8, 16, 4, 25_000_000, 3_000_000, len(self.memory), bool(self.waiting)))
        elif self.session and (sequence - self.expected) % 256 >= 256 - WINDOW:
            if sequence in self.kept:
                self.send(sequence, *self.kept[sequence])
        elif self.session and sequence == self.expected and len(self.waiting) < WINDOW:
            self.expected, self.said = (self.expected + 1) % 256, False
            self.waiting.append((sequence, opcode, payload))
        elif not self.said:
            self.said = True
            self.send(self.expected, Opcode.NAK, 0)

    def execute(self, sequence, opcode, payload):
        self.kept.pop((sequence - WINDOW) % 256, None)
        status, content = Status.OK, b""
        if opcode == Opcode.REG_WRITE:
            self.writes.append(struct.unpack("<HI", payload))
        elif opcode == Opcode.MEM_WRITE:
            (at,) = struct.unpack_from("<Q", payload)
            assert len(payload) <= 8 + WRITE
            if at + len(payload) - 8 > len(self.memory):
                status = Status.BUS
            else:
                self.memory[at:at + len(payload) - 8] = payload[8:]
        elif opcode == Opcode.MEM_READ:
            at, size = struct.unpack("<QH", payload)
            assert size <= READ
            content = bytes(self.memory[at:at + size])
        else:
            status = Status.MALFORMED
        self.kept[sequence] = opcode, status, content
        self.send(sequence, opcode, status, content)
