"""From a loaded bitstream to the first tokens: steps, each of which says what to check next."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stmoe.config import ConfigError
from stmoe_golden.predict.unit import PredictionUnit

from ..policies import Policy
from .device import Device
from .link import Link, LinkError
from .memory_test import MemoryFault, test_address, test_cells, test_data
from .setup import image, set_up
from .workload import Workload

__all__ = ["BringUp", "Step", "StepFailed", "bring_up"]

IDENTITY = 0x53544D45
HITS = ("hit_resident", "hit_prefetched", "hit_late")
LINE_BITS = 10  # of a byte, 8N1
Progress = Callable[[str, int, int], None]


class StepFailed(RuntimeError):
    """A step did not pass: what was found, and what to check next."""

    def __init__(self, found: str, check: str):
        super().__init__(f"{found}; {check}")
        self.found, self.check = found, check


@dataclass(frozen=True)
class Step:
    """What became of a step; ``check`` is empty where it passed."""

    name: str
    passed: bool
    found: str
    check: str = ""


@dataclass
class BringUp:
    """The outcome: steps in order, measurements, counters of the replay."""

    steps: list[Step] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.steps) and all(step.passed for step in self.steps)


@dataclass
class _Run:
    device: Device
    workload: Workload
    policy: Policy
    unit: PredictionUnit | None
    outcome: BringUp
    progress: Progress
    test_bytes: int
    retention: float
    seed: int


def _identify(run: _Run) -> str:
    device, who = run.device, run.device.identity
    device.reset()
    found = device.read("id")
    if found != IDENTITY:
        raise StepFailed(f"register id holds 0x{found:08x}, not 0x{IDENTITY:08x}",
                         "check AXI4-Lite between link and accelerator in the top")
    version = device.read("version")
    whole = device.read("hash_lo") | device.read("hash_hi") << 32
    if whole != who.config_hash:
        raise StepFailed(f"the accelerator's hash is {whole:016x}, the link's "
                         f"{who.config_hash:016x}", "build accelerator and link together")
    need = device.geometry.total_bytes
    if who.memory_bytes < need:
        raise StepFailed(f"expert memory has {who.memory_bytes:,} bytes, the configuration's "
                         f"experts need {need:,}", "choose a smaller model or a larger memory")
    run.outcome.measured |= {"config_hash": f"{whole:016x}", "clock_hz": who.clock_hz,
                             "baud": who.baud, "memory_bytes": who.memory_bytes,
                             "version": f"{version >> 16}.{version & 0xFFFF}"}
    return (f"hash {whole:016x}, version {version >> 16}.{version & 0xFFFF}, clock "
            f"{who.clock_hz / 1e6:g} MHz, line {who.baud / 1e6:g} Mbaud, memory "
            f"{who.memory_bytes:,} bytes")


def _registers(run: _Run) -> str:
    """Reset values, and every bit of the writable registers of the shape, both ways."""
    device = run.device
    tried = 0
    for name, register in device.registers.items():
        if not name.startswith(("shape_", "threshold", "linear_threshold")):
            continue
        bits = sum((1 << field["width"]) - 1 << field["lsb"]
                   for field in register["fields"].values() if field["access"] == "rw")
        if not bits:
            continue
        for value in (bits & 0x55555555, bits & 0xAAAAAAAA, register["reset"]):
            device.write(name, value)
            got = device.read(name)
            if got != value:
                raise StepFailed(f"register {name} holds 0x{got:x} after 0x{value:x} was written",
                                 "check timing of the bitstream and AXI4-Lite in the top")
        tried += 1
    return f"{tried} registers written and read, both values of every bit"


def _memory(run: _Run) -> str:
    check = ("check the memory's pins, clock phase and timing; a single bit, its cell: the "
             "pattern is in the message")
    try:
        parts = [test_data(run.device), test_address(run.device),
                 test_cells(run.device, run.test_bytes, run.retention, run.seed,
                            lambda done, of: run.progress("memory", done, of))]
    except MemoryFault as fault:
        raise StepFailed(str(fault), check) from None
    return ", ".join(parts)


def _load(run: _Run) -> str:
    """Experts into memory, at the speed of the line; read back."""
    device, who = run.device, run.device.identity
    blobs = run.workload.blobs()
    total, done = sum(len(blob) for _, blob in blobs), 0
    content = image(run.workload.experts.geometry, blobs)
    before, started = _cycles(device), time.monotonic()
    device.write_memory(0, content, lambda n: run.progress("load", n, len(content)))
    seconds = time.monotonic() - started
    cycles = _cycles(device) - before
    efficiency = len(content) * LINE_BITS / who.baud / (cycles / who.clock_hz)
    for address, blob in blobs:
        beats = -(-len(blob) // who.axi_bytes) * who.axi_bytes
        got = device.read_memory(address, beats)[:len(blob)]
        done += len(blob)
        run.progress("verify", done, total)
        if got != blob:
            at = next(i for i, (a, b) in enumerate(zip(got, blob, strict=True)) if a != b)
            raise StepFailed(f"byte 0x{address + at:x} holds 0x{got[at]:02x}, not "
                             f"0x{blob[at]:02x}", "run the memory test over all of the memory "
                                                  "(--test-bytes)")
    run.outcome.measured |= {"load_bytes": len(content), "load_cycles": cycles,
                             "load_seconds": seconds, "line_efficiency": efficiency}
    return (f"{len(blobs)} experts, {len(content):,} bytes in {cycles / who.clock_hz:.2f} s of the "
            f"board's clock, {100 * efficiency:.1f} % of the line rate; read back right")


def _cycles(device: Device) -> int:
    """Cycles since reset."""
    low = device.read("cycles_total_lo")
    return low | device.read("cycles_total_hi") << 32


def _compare(result: np.ndarray, want: np.ndarray, where: str) -> None:
    wrong = np.flatnonzero(result != want)
    if wrong.size:
        at = int(wrong[0])
        raise StepFailed(
            f"{where}, channel {at}: result {result[at]}, golden {want[at]}; {wrong.size} of "
            f"{want.size} channels differ",
            "read the experts back (step load); if they are right, the bitstream misses its "
            "timing: build it for a lower clock")


def _expert(run: _Run) -> str:
    """One expert at a time, each alone with gate 1.0, on one layer."""
    device, work = run.device, run.workload
    set_up(run.device, run.policy, run.unit)
    model = device.config.model
    x, count = work.x[0, 0], min(2, model.experts)
    from stmoe_golden.compute.expert import moe_layer

    shared = list(range(model.experts, model.expert_ids))
    for first in range(count):
        ids = [(first + rank) % model.experts for rank in range(model.top_k)]
        gates = [0x8000] + [0] * (model.top_k - 1)
        want = moe_layer(x, [work.experts.get(0, e) for e in [*ids, *shared]],
                         np.array([*gates, *[0x8000] * len(shared)], np.uint16))
        device.token(0xFFFFFFFF, True)
        _compare(device.layer(0, x, ids, gates), want, f"expert {first} of layer 0")
    return f"{count} experts of layer 0, each alone, equal golden"


def _replay(run: _Run) -> str:
    device, work = run.device, run.workload
    set_up(run.device, run.policy, run.unit)
    device.write_fields("counter_ctrl", clear=1)
    tokens, layers, _ = work.routing.shape
    started = time.monotonic()
    for t in range(tokens):
        device.token(int(work.token[t]), bool(work.first[t]))
        for layer in range(layers):
            result = device.layer(layer, work.x[t, layer], work.routing[t, layer].tolist(),
                                  work.gates[t, layer].tolist())
            _compare(result, work.golden(t, layer), f"token {t}, layer {layer}")
        run.progress("replay", t + 1, tokens)
    seconds = time.monotonic() - started
    device.settle()
    counters = run.outcome.counters = device.counters()
    held = device.error()
    if held:
        raise StepFailed(f"all results are right, but {held} is held", "see the error's meaning")
    causes = sum(value for name, value in counters.items()
                 if name.startswith("cycles_") and name != "cycles_total")
    if causes != counters["cycles_total"] or counters["layers_done"] != tokens * layers:
        raise StepFailed(f"counters disagree: {causes} cycles by cause of "
                         f"{counters['cycles_total']}, {counters['layers_done']} layers of "
                         f"{tokens * layers}", "check timing of the bitstream")
    clock = device.identity.clock_hz
    busy = counters["cycles_total"] - counters["cycles_attention"] - counters["cycles_receive"]
    covered = sum(counters[name] for name in HITS)
    run.outcome.measured |= {
        "tokens": tokens, "results_equal": tokens * layers,
        "cycles_total": counters["cycles_total"], "cycles_computing": busy,
        "dma_bytes_per_cycle": (counters["beats_link"] * device.identity.axi_bytes
                                / max(1, counters["dma_active"])),
        "coverage": covered / counters["routed"],
        "tokens_per_second": tokens * clock / counters["cycles_total"],
        "tokens_per_second_without_link": tokens * clock / busy, "replay_seconds": seconds}
    return (f"{tokens} tokens of {work.name}: all {tokens * layers} results equal golden, "
            f"coverage {100 * covered / counters['routed']:.1f} %")


STEPS: tuple[tuple[str, Callable[[_Run], str]], ...] = (
    ("identify", _identify), ("registers", _registers), ("memory", _memory), ("load", _load),
    ("expert", _expert), ("replay", _replay))


def bring_up(connect: Callable[[], Device], workload: Workload, policy: Policy, *,
             unit: PredictionUnit | None = None, test_bytes: int = 0, retention: float = 0.5,
             seed: int = 1, progress: Progress = lambda step, done, of: None,
             report: Callable[[Step], None] = lambda step: None) -> BringUp:
    """All steps in order, up to the first that fails.

    Parameters
    ----------
    connect: opens the link; the first step. workload: what is computed.
    policy, unit: settings of the accelerator, and golden's unit whose rows it starts with.
    test_bytes: of memory that every cell is tested of, if there are as many, 0 = all.
    retention: seconds without access.
    progress, report: called as work goes on and when a step is over.
    """
    outcome = BringUp()

    def over(step: Step) -> None:
        outcome.steps.append(step)
        report(step)

    try:
        device = connect()
    except LinkError as error:
        over(_failed("link", error))
        return outcome
    link: Link = device.link
    try:
        over(Step("link", True, f"{link.transport.name}, window of {device.identity.window} "
                                f"requests"))
        size = min(test_bytes or device.identity.memory_bytes, device.identity.memory_bytes)
        if size % device.identity.axi_bytes:
            raise ConfigError("--test-bytes", size,
                              f"a multiple of {device.identity.axi_bytes}, a beat")
        run = _Run(device, workload, policy, unit, outcome, progress, size, retention, seed)
        for name, step in STEPS:
            try:
                over(Step(name, True, step(run)))
            except StepFailed as failure:
                over(Step(name, False, failure.found, failure.check))
                break
            except LinkError as error:
                over(_failed(name, error))
                break
        outcome.measured["link"] = vars(link.statistics)
    finally:
        link.close()
    return outcome


def _failed(name: str, error: LinkError) -> Step:
    found, _, check = str(error).rpartition(": ")
    return Step(name, False, found, check)
