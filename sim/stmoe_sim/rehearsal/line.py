"""The cable between host and simulated board: a pseudo-terminal, with faults at choice."""

import contextlib
import dataclasses
import os
import pty
import random
import select
import subprocess
import threading
import time
import tty
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stmoe.boards.tops import Board

__all__ = ["Faults", "SimulatedBoard"]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is wrong with line and board.

    Parameters
    ----------
    noise, drop: chance per byte, each way, that a bit of it is flipped, that it is lost.
    stuck: 16-bit word of SDRAM, mask of its bits and of those of the three behind it, and what they
        read as; None: memory is whole.
    part: fields of the SdramPart that are not what the bitstream was made for, None: all are.
    silent: nothing comes from the board. pull_after: bytes from the host after which the cable is
        pulled for 0.2 s; 0: never. seed: of the chances.
    """

    noise: float = 0.0
    drop: float = 0.0
    stuck: tuple[int, int, int] | None = None
    part: dict[str, float] | None = None
    silent: bool = False
    pull_after: int = 0
    seed: int = 1


class SimulatedBoard:
    """A running simulator behind ``port``; a context manager.

    Parameters
    ----------
    binary: of :func:`~stmoe_sim.rehearsal.board.build_board`. board: that it was built of.
    link: path that always leads to the terminal, as a name under /dev/serial does.

    Attributes
    ----------
    port: what to give to the host software.
    sent, received: bytes from and to the host. harmed: that were flipped or dropped.
    said: what the simulator wrote of broken rules of the SDRAM, in the end.
    """

    def __init__(self, binary: Path, board: Board, link: Path, faults: Faults | None = None):
        self.binary, self.board, self.faults = binary, board, faults or Faults()
        self.port = link
        self.rng = random.Random(self.faults.seed)
        self.sent = self.received = self.harmed = self.pulled = 0
        self.stopping, self.said = False, ""
        self.master = self.keep = -1

    def __enter__(self) -> Self:
        stuck = zip(("stuck_word", "stuck_mask", "stuck_value"), self.faults.stuck or (),
                    strict=False)
        sdram = dataclasses.asdict(self.board.sdram) if self.board.sdram else {}
        part = (sdram | (self.faults.part or {})).items()
        self.process = subprocess.Popen(
            [str(self.binary.resolve()), str(self.board.clock_hz), str(self.board.baud),
             *(f"{name}={value}" for name, value in (*stuck, *part))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)
        self._plug()
        self.thread = threading.Thread(target=self._relay, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        self.thread.join(5)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stderr is not None
        self.said = self.process.stderr.read().decode(errors="replace")
        self.process.stdout.close()
        self.process.stderr.close()
        self._unplug()

    def _plug(self) -> None:
        self.master, self.keep = pty.openpty()
        tty.setraw(self.keep)
        self.port.unlink(missing_ok=True)
        self.port.symlink_to(os.ttyname(self.keep))

    def _unplug(self) -> None:
        self.port.unlink(missing_ok=True)
        for end in (self.keep, self.master):
            with contextlib.suppress(OSError):
                os.close(end)

    def _harm(self, line: bytes) -> bytes:
        faults = self.faults
        if not faults.noise and not faults.drop:
            return line
        out = bytearray()
        for byte in line:
            if self.rng.random() < faults.drop:
                self.harmed += 1
                continue
            if self.rng.random() < faults.noise:
                byte ^= 1 << self.rng.randrange(8)
                self.harmed += 1
            out.append(byte)
        return bytes(out)

    def _relay(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        down, up = self.process.stdin.fileno(), self.process.stdout.fileno()
        while not self.stopping:
            ready, _, _ = select.select([self.master, up], [], [], 0.1)
            for end in ready:
                try:
                    line = os.read(end, 4096)
                except OSError:  # nobody has the terminal open
                    time.sleep(0.01)
                    continue
                if end == up:
                    if not line:
                        return
                    self.received += len(line)
                    self._write(self.master, b"" if self.faults.silent else self._harm(line))
                else:
                    self.sent += len(line)
                    self._write(down, self._harm(line))
            if self.faults.pull_after and not self.pulled and self.sent > self.faults.pull_after:
                self.pulled += 1
                self._unplug()
                time.sleep(0.2)
                self._plug()

    def _write(self, end: int, line: bytes) -> None:
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(end, line):]


