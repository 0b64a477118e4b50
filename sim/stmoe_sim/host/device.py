"""An accelerator on a board: registers by name, expert memory, layers."""

import struct
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from stmoe.bus.csr import register_map
from stmoe.config import AcceleratorConfig, ConfigError, Geometry

from .frames import Frame, Identity, Opcode, Status
from .link import Link, LinkError

__all__ = ["Device", "LayerFailed", "WrongBuild"]

TOKEN, LAYER, LOAD_ROUTER, FLUSH = 1, 2, 3, 5  # commands
WAIT_TICKS = 64  # of 256 cycles, that a board waits for a result before it says "not yet"
COMMAND_WORDS = 64  # most of a request


class WrongBuild(LinkError):
    """The board holds another build than the host was told."""


class LayerFailed(LinkError):
    """The accelerator marked a layer as failed, or gave no result."""


class Device:
    """A board behind an open link, checked to hold a netlist of ``config``.

    Parameters
    ----------
    link: open. config: of the netlist; :class:`WrongBuild` if the board's hash is another.

    Attributes
    ----------
    identity: what the board says of itself. registers: see
        :func:`stmoe.bus.registers.register_map`.
    """

    def __init__(self, link: Link, config: AcceleratorConfig):
        self.link, self.config, self.geometry = link, config, Geometry(config)
        self.registers = register_map(self.geometry)
        identity = self.identity
        if identity.config_hash != config.hash:
            raise WrongBuild(
                f"the board holds configuration {identity.config_hash:016x}, the host was told "
                f"{config.hash:016x}: load the bitstream of this configuration, or give its "
                "--config, --preset and --set")

    @property
    def identity(self) -> Identity:
        return self.link.identity

    # Registers.
    def _address(self, name: str) -> bytes:
        if name not in self.registers:
            raise ConfigError("register", name, "one of " + ", ".join(self.registers))
        return struct.pack("<H", self.registers[name]["address"])

    def read(self, name: str) -> int:
        """A register, 32 bits."""
        return int.from_bytes(
            self.link.request(Opcode.REG_READ, self._address(name)).data, "little")

    def write(self, name: str, value: int) -> None:
        """Write a register, 32 bits."""
        self.link.request(Opcode.REG_WRITE, self._address(name) + struct.pack("<I", value))

    def write_fields(self, name: str, **fields: int) -> None:
        """Write a register whose other fields become 0."""
        known = self.registers[name]["fields"]
        self.write(name, sum(value << known[field]["lsb"] for field, value in fields.items()))

    def counters(self) -> dict[str, int]:
        """All 64-bit counters of one moment."""
        names = [name[:-3] for name in self.registers
                 if name.endswith("_lo") and self.registers[name]["address"] >= 0x200]
        self.write_fields("counter_ctrl", freeze=1)
        requests = [(Opcode.REG_READ, self._address(f"{name}_{half}"))
                    for name in names for half in ("lo", "hi")]
        words = [int.from_bytes(frame.data, "little") for frame in self.link.stream(requests)]
        self.write_fields("counter_ctrl", freeze=0)
        return {name: words[2 * at] | words[2 * at + 1] << 32 for at, name in enumerate(names)}

    def settle(self) -> None:
        """Wait until nothing is in flight; :class:`LinkError` if something stays."""
        end = time.monotonic() + self.link.patience
        busy = 1 << self.registers["status"]["fields"]["busy"]["lsb"]
        while self.read("status") & busy:
            if time.monotonic() > end:
                raise LinkError("status.busy stays 1: a transfer of expert memory does not end; "
                                "reset the board, then test its memory")

    def reset(self) -> None:
        """Reset the accelerator and the memory's controller; memory keeps its contents."""
        self.link.request(Opcode.RESET)

    # Expert memory.
    def _chunks(self, address: int, size: int, most: int) -> Iterator[tuple[int, int]]:
        beat = self.identity.axi_bytes
        if address % beat or size % beat or not 0 <= address <= address + size:
            raise ConfigError("memory address and size", (address, size),
                              f"multiples of a beat of {beat} bytes")
        for at in range(address, address + size, most):
            yield at, min(most, address + size - at)

    def write_memory(self, address: int, content: bytes,
                     progress: Callable[[int], None] = lambda done: None) -> None:
        """Write whole beats; ``progress`` gets the bytes done."""
        chunks = list(self._chunks(address, len(content), self.identity.write_bytes))
        requests = ((Opcode.MEM_WRITE,
                     struct.pack("<Q", at) + content[at - address:at - address + size])
                    for at, size in chunks)
        done = 0
        for (_, size), _ in zip(chunks, self.link.stream(requests), strict=True):
            done += size
            progress(done)

    def read_memory(self, address: int, size: int,
                    progress: Callable[[int], None] = lambda done: None) -> bytes:
        """Read whole beats."""
        chunks = list(self._chunks(address, size, self.identity.read_bytes))
        content = bytearray()
        requests = ((Opcode.MEM_READ, struct.pack("<QH", at, part)) for at, part in chunks)
        for frame in self.link.stream(requests):
            content += frame.data
            progress(len(content))
        return bytes(content)

    # Streams.
    def _until_taken(self, opcode: Opcode, payload: bytes, frame: Frame | None = None) -> None:
        end = time.monotonic() + self.link.patience
        while frame is None or frame.status == Status.BUSY:
            if frame is not None and time.monotonic() > end:
                raise LinkError(f"{opcode.name}: the accelerator takes no words: is ctrl.enable "
                                "set, and were the activations of the last layer all sent?")
            frame = self.link.request(opcode, payload)

    def command(self, words: Sequence[int]) -> None:
        """Send command words."""
        for at in range(0, len(words), COMMAND_WORDS):
            part = words[at:at + COMMAND_WORDS]
            self._until_taken(Opcode.COMMAND, struct.pack(f"<{len(part)}Q", *part))

    def activations(self, content: bytes) -> None:
        """Send activation bytes, whole words of ``lanes``."""
        most = self.identity.write_bytes // 2
        for at in range(0, len(content), most):
            self._until_taken(Opcode.ACTIVATIONS, content[at:at + most])

    def flush(self) -> None:
        """Send FLUSH and wait for its end."""
        self.command([FLUSH])
        self.settle()

    def token(self, identity: int, first: bool) -> None:
        """Announce a token; identity 0xFFFFFFFF: unknown."""
        self.command([TOKEN | int(first) << 8 | (identity & 0xFFFFFFFF) << 32])

    def load_router(self, layer: int, weights: np.ndarray) -> None:
        """Gate weights int8 [expert, d_model] of a layer, for the router on chip."""
        self.command([LOAD_ROUTER | layer << 16])
        self.activations(np.ascontiguousarray(weights, np.int8).tobytes())

    def layer(self, layer: int, x: np.ndarray, experts: Sequence[int] | None = None,
              gates: Sequence[int] = ()) -> np.ndarray:
        """int16 [d_model], the result of int8 ``x`` [d_model] under the given routing.

        ``experts`` None: the router on chip decides, with the register ``router_scale``.
        ``gates``: uint16, Q1.15. :class:`LayerFailed` where there is no result.
        """
        words = [LAYER | (experts is None) << 8 | layer << 16 | 1 << 32,
                 *(int(e) | int(g) << 16 for e, g in zip(experts or (), gates, strict=True))]
        content = np.ascontiguousarray(x, np.int8).tobytes()
        wait = struct.pack("<H", WAIT_TICKS)
        if len(words) > COMMAND_WORDS or len(content) > self.identity.write_bytes // 2:
            self.command(words)
            self.activations(content)
            last = None
        else:  # in one go
            requests = [(Opcode.COMMAND, struct.pack(f"<{len(words)}Q", *words)),
                        (Opcode.ACTIVATIONS, content), (Opcode.RESULT, wait)]
            *taken, last = self.link.stream(requests, takes=self._seconds(WAIT_TICKS))
            for (opcode, payload), frame in zip(requests[:2], taken, strict=True):
                self._until_taken(opcode, payload, frame)
        return self._result(layer, len(x), last)

    def _seconds(self, ticks: int) -> float:
        return ticks * 256 / self.identity.clock_hz

    def _result(self, layer: int, width: int, frame: Frame | None) -> np.ndarray:
        content = bytearray()
        end = time.monotonic() + self.link.patience
        while True:
            frame = frame or self.link.request(Opcode.RESULT, struct.pack("<H", WAIT_TICKS),
                                               takes=self._seconds(WAIT_TICKS))
            content += frame.data
            if frame.status in (Status.OK, Status.FAILED):
                break
            if frame.status == Status.MORE:
                end = time.monotonic() + self.link.patience
            elif time.monotonic() > end:
                raise LayerFailed(f"layer {layer}: no result: the accelerator waits for expert "
                                  f"memory or for words; {self.error() or 'no error is held'}")
            frame = None
        if frame.status == Status.FAILED:
            raise LayerFailed(f"layer {layer} failed: {self.error()}")
        if len(content) != 2 * width:
            raise LayerFailed(f"layer {layer}: a result of {len(content)} bytes, not of "
                              f"{2 * width}: was there one of an earlier layer?")
        return np.frombuffer(bytes(content), "<i2")

    def error(self) -> str:
        """What the error registers hold, or nothing."""
        code = self.read("error") & 0xFF
        if not code:
            return ""
        where = ", ".join(f"{part} {self.read(f'error_{part}')}"
                          for part in ("layer", "expert", "detail"))
        return f"error {code} (docs/programming-model.md#errors), {where}"
