"""A simulated machine that is driven layer by layer while it runs."""

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np

from stmoe.bus.csr import register_map
from stmoe.config import Geometry
from stmoe.interfaces import Phase
from stmoe_golden.predict.unit import PredictionUnit

from .job import memory_plusargs, write_job
from .memory import Memory
from .policies import Policy
from .replay import SimulationError
from .steps import DenseStep, dense_header, header
from .verilator import Simulator
from .wire import Wire, WireError

__all__ = ["LiveMachine"]

ANSWER_SECONDS = 600.0


class LiveMachine:
    """One simulator process for as long as the object is open; a context manager.

    The policy's registers, the predictor's table and the router's weights are set when it opens.
    :class:`SimulationError` if the simulator dies, hangs or refuses.

    Parameters
    ----------
    geometry, policy, memory: what :class:`stmoe_sim.replay.Replay` has of the same names.
    unit: golden prediction unit whose rows the netlist starts with, None = off.
    router: int8 [layer, expert, d_model], loaded into the on-chip router, or empty.
    image: of expert memory.

    Attributes
    ----------
    log: the file of events and predictions; complete after :meth:`settle`.
    """

    def __init__(self, *, geometry: Geometry, policy: Policy, unit: PredictionUnit | None,
                 router: np.ndarray, memory: Memory, simulator: Simulator, image: Path,
                 seed: int = 1):
        self.geometry = geometry
        self.registers = register_map(Geometry(geometry.config))
        self.home = Path(tempfile.mkdtemp(prefix="stmoe-live-"))
        self.process: subprocess.Popen | None = None
        self.wire: Wire | None = None
        try:
            self._open(policy, unit, router, memory, simulator, image, seed)
        except BaseException:
            self.close()
            raise

    def _open(self, policy: Policy, unit: PredictionUnit | None, router: np.ndarray,
              memory: Memory, simulator: Simulator, image: Path, seed: int) -> None:
        model = self.geometry.config.model
        nothing = {name: np.zeros((0, model.layers, model.top_k), np.int64)
                   for name in ("experts", "gates")}
        write_job(self.home, geometry=self.geometry, policy=policy, unit=unit,
                  stimulus=nothing | {"router": router}, registers=self.registers, memory=memory,
                  warmup=0, attention_cycles=0, stall=0, route_on_chip=False)
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER_SECONDS)
        self.wire = Wire(ours)
        with theirs:
            self.process = simulator.start(
                self.home, module="stmoe_sim.live_bench", inherit=theirs.fileno(),
                plusargs=[*memory_plusargs(self.geometry, image), "+log=events.log",
                          f"+seed={seed}"])
        outcome, _ = self._answer()
        if outcome["error"]:
            raise SimulationError(outcome["error"])

    def _tail(self) -> str:
        path = self.home / "sim.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-15:])

    def _answer(self) -> tuple[dict[str, Any], bytes]:
        assert self.wire is not None
        try:
            return self.wire.receive()
        except WireError as error:
            raise SimulationError(f"the simulator: {error}\n{self._tail()}") from None

    def _ask(self, order: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        if self.wire is None:
            raise SimulationError("the simulator was closed")
        try:
            self.wire.send(order, data)
        except WireError as error:
            raise SimulationError(f"the simulator: {error}\n{self._tail()}") from None
        return self._answer()

    @property
    def log(self) -> Path:
        return self.home / "events.log"

    def token(self, identity: int, first: bool) -> None:
        """Announce a token."""
        self._ask({"do": "token", "token": identity, "first": first})

    def layer(self, layer: int, x: np.ndarray, *, experts: list[list[int]] | None = None,
              gates: np.ndarray | None = None, scale: tuple[int, int] = (0, 0),
              scale_next: tuple[int, int] = (0, 0), phase: Phase = Phase.DECODE,
              delay: int = 0) -> np.ndarray:
        """Results of a layer, int16 [token, d_model], of int8 ``x`` of as many tokens; ``delay``
        cycles of attention before.

        Without ``experts`` and ``gates`` ([token, rank], uint16 Q1.15) the on-chip router decides,
        with ``scale`` (multiplier, shift) from its accumulators to steps of 1/64; ``scale_next`` is
        that of the next layer, for look-ahead.
        """
        words = [header(layer, len(x), phase, experts is None)]
        registers: list[tuple[int, int]] = []
        if experts is None:
            registers += [(self.registers[name]["address"], mult | shift << 16)
                          for name, (mult, shift) in (("router_scale", scale),
                                                      ("router_scale_next", scale_next))]
        else:
            assert gates is not None
            words += [e | int(gate) << 16 for ids, weights in zip(experts, gates, strict=True)
                      for e, gate in zip(ids, weights, strict=True)]
        answer, data = self._ask({"do": "layer", "words": words, "registers": registers,
                                  "width": x.size, "delay": delay},
                                 np.ascontiguousarray(x, np.int8).tobytes())
        if answer["failed"]:
            raise SimulationError(f"layer {layer}: the hardware reported an error")
        return np.frombuffer(data, np.int16).reshape(x.shape)

    def dense(self, step: DenseStep, x: np.ndarray, delay: int = 0) -> np.ndarray:
        """Results of a DENSE command, int16 [token, d_model], of int8 ``x``; ``delay`` cycles of
        the host's attention before."""
        answer, data = self._ask({"do": "layer", "words": [dense_header(step)], "registers": [],
                                  "width": x.size, "delay": delay},
                                 np.ascontiguousarray(x, np.int8).tobytes())
        if answer["failed"]:
            raise SimulationError(f"dense weights of layer {step.layer}: the hardware reported an "
                                  "error")
        return np.frombuffer(data, np.int16).reshape(x.shape)

    def counters(self) -> dict[str, int]:
        """All counters, frozen while they are read."""
        return self._ask({"do": "counters"})[0]["counters"]

    def settle(self) -> dict[str, Any]:
        """Wait until nothing is in flight; ``counters_all``, ``violations``, ``errors``."""
        return self._ask({"do": "settle"})[0]

    def close(self) -> None:
        """End the simulator and remove its files."""
        if self.wire is not None:
            self.wire.close()
            self.wire = None
        if self.process is not None:
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
