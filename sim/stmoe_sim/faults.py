"""A campaign of faults on the netlist: what is injected, and what becomes of it."""

import dataclasses
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.bus.csr import register_map
from stmoe.config import AcceleratorConfig, Geometry
from stmoe.interfaces import ErrorCode, Event
from stmoe_golden.compute.expert import moe_layer
from stmoe_golden.model.trace import default_trace
from stmoe_golden.trace import decode_slice

from .faults_plan import KINDS, Step, make_plan
from .image import Experts, write_image
from .job import memory_plusargs, write_job
from .memory import memories
from .policies import POLICIES
from .replay import Replay, SimulationError, fit
from .verify import read_log
from .verilator import Simulator

__all__ = ["OUTCOMES", "CampaignReport", "campaign_replay", "run_campaign"]

OUTCOMES = ("right", "reported", "silent", "hung")
RUN_POLICIES = ("table", "linear", "on-demand", "st-moe", "lru", "ewma")
SLOTS = (2, 3, 6, 12, 24, 76)  # at run time; few slots keep the link busy
POLL_SECONDS = 0.2


@dataclass
class CampaignReport:
    """Faults by kind and outcome, and every problem in words."""

    table: dict[str, dict[str, int]] = field(
        default_factory=lambda: {kind: dict.fromkeys(("steps", "injected", *OUTCOMES), 0)
                                 for kind in KINDS})
    problems: list[str] = field(default_factory=list)
    cycles: int = 0

    def total(self, column: str) -> int:
        """Sum over the kinds."""
        return sum(row[column] for row in self.table.values())

    @property
    def passed(self) -> bool:
        """No wrong result, no hang, nothing else that is not as it should be."""
        return not self.problems and not self.total("silent") and not self.total("hung")

    def count(self, kind: str, injected: int, outcome: str) -> None:
        """A step and the faults in it, all of which have its outcome."""
        row = self.table[kind]
        row["steps"] += 1
        row["injected"] += injected
        row[outcome] += injected


def campaign_replay(config: AcceleratorConfig, tokens: int, seed: int, cache: Path) -> Replay:
    """What runs of ``tokens`` tokens play: the project's own trace, random experts."""
    trace = default_trace()
    return Replay(config=fit(config, trace), window=decode_slice(trace, tokens, 0),
                  memory=memories()["ideal"], attention_cycles=0, seed=seed, cache=cache)


def run_campaign(replay: Replay, runs: int,
                 progress: Callable[[str, int, int], None] = lambda stage, done, of: None,
                 ) -> CampaignReport:
    """Play ``runs`` runs and judge every step; ``progress(stage, done, of)`` is called meanwhile.

    A run has a policy, a memory and a number of slots of its own; a step is a layer command with
    faults of one of :data:`~stmoe_sim.faults_plan.KINDS`. All is drawn from the seed of ``replay``,
    whose window, experts and netlist are played, with other activations in each run.
    :class:`SimulationError` if a simulator dies.
    """
    progress("netlist and simulator", 0, 1)
    simulator = replay.simulator()
    progress("netlist and simulator", 1, 1)
    experts = replay.experts()
    image = write_image(experts, replay.cache)
    report = CampaignReport()
    tokens, layers, _ = replay.stimulus()["experts"].shape
    steps = tokens * layers
    for number in range(runs):
        def count(done: int, before: int = number * steps) -> None:
            progress("layer commands", before + done, runs * steps)
        home = Path(tempfile.mkdtemp(prefix="stmoe-faults-"))
        try:
            play = _Play(replay, number, home)
            play.start(simulator, image, count)
            play.judge(experts, report)
        finally:
            shutil.rmtree(home)
    return report


class _Play:
    """One run, in the folder ``home``."""

    def __init__(self, replay: Replay, number: int, home: Path):
        self.replay, self.number, self.home = replay, number, home
        self.geometry = replay.geometry
        rng = np.random.default_rng((replay.seed, 0xfa017, number))
        choose = rng.choice
        # Policies and slots differ from run to run in every combination, memories at random.
        self.policy = POLICIES[RUN_POLICIES[number % len(RUN_POLICIES)]]
        self.slots = min(SLOTS[number // len(RUN_POLICIES) % len(SLOTS)] if number >= len(
            RUN_POLICIES) else int(choose(SLOTS)), self.geometry.slots)
        self.memory = dataclasses.replace(
            memories()[str(choose(sorted(memories())))], reorder=bool(choose([False, True])),
            stall=int(choose([0, 0, 40, 120])), outstanding=int(choose([1, 4, 16])))
        self.seed = int(rng.integers(1, 2**31))
        self.stimulus = replay.stimulus()
        self.stimulus["x"] = rng.integers(-128, 128, self.stimulus["x"].shape, np.int8)
        self.plan = make_plan(self.geometry, self.stimulus["experts"], rng)

    @property
    def name(self) -> str:
        return (f"run {self.number} ({self.policy.name}, {self.slots} slots, {self.memory.name}"
                f"{', reordered' if self.memory.reorder else ''})")

    def start(self, simulator: Simulator, image: Path, progress: Callable[[int], None]) -> None:
        """Simulate, to the end; leaves ``record.json`` and ``results.npz``."""
        registers = register_map(Geometry(self.geometry.config))
        write_job(self.home, geometry=self.geometry, policy=self.policy,
                  unit=self.replay.unit(self.policy), stimulus=self.stimulus, registers=registers,
                  memory=self.memory, warmup=0, attention_cycles=0, stall=0, route_on_chip=False)
        job = json.loads((self.home / "job.json").read_text())
        job["registers"]["setup"].append([registers["shape_slots"]["address"], self.slots])
        shape = registers["shape_in_words"]
        job["shape_register"] = [shape["address"], self.geometry.in_words]
        (self.home / "job.json").write_text(json.dumps(job))
        (self.home / "plan.json").write_text(json.dumps(
            [dataclasses.asdict(step) for step in self.plan]))
        process = simulator.start(self.home, module="stmoe_sim.faults_bench", plusargs=[
            *memory_plusargs(self.geometry, image), "+log=events.log", f"+seed={self.seed}"])
        try:
            while process.poll() is None:
                try:
                    process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    pass
                if (self.home / "progress").exists():
                    progress(int((self.home / "progress").read_text() or 0))
        finally:
            if process.poll() is None:
                process.kill()
        if not (self.home / "record.json").exists():
            tail = (self.home / "sim.log").read_text(errors="replace").splitlines()[-15:]
            raise SimulationError(f"{self.name}: the simulator ended without a result:\n"
                                  + "\n".join(tail))

    def judge(self, experts: Experts, report: CampaignReport) -> None:
        """File every step."""
        record = json.loads((self.home / "record.json").read_text())
        with np.load(self.home / "results.npz") as file:
            results = file["results"]
        late = [cycle for kind, (cycle, what, *_) in read_log(self.home / "events.log")
                if kind == "E" and what == Event.HIT_LATE]
        report.cycles += record["cycles"]
        for number, (step, seen) in enumerate(zip(self.plan, record["steps"], strict=False)):
            t, layer = divmod(number, self.geometry.config.model.layers)
            injected = _injected(step, seen, late)
            if "end" not in seen:
                report.count(step.kind, max(1, injected), "hung")
                continue
            wrong, outcome = self._judge_step(step, seen, results[number], t, layer, experts)
            if wrong:
                report.problems.append(
                    f"{self.name}, token {t}, layer {layer}, {step.kind}: {wrong}")
            report.count(step.kind, injected, outcome)
        if record["hung"]:
            report.problems.append(f"{self.name}, step {len(record['steps']) - 1}: "
                                   f"{record['hung']}")
        if record["violations"]:
            report.problems.append(f"{self.name}: protocol checkers: violations "
                                   f"0x{record['violations']:x}")

    def _judge_step(self, step: Step, seen: dict[str, Any], result: np.ndarray, t: int,
                    layer: int, experts: Experts) -> tuple[str, str]:
        """What is wrong with a step, if anything, and its outcome."""
        routed = self.stimulus["experts"][t, layer].tolist()
        errors = seen["errors"]
        if step.bad:
            answer = seen["refused"]
            if answer["error"] != step.bad["code"]:
                return (f"{step.bad['what']}: error {answer['error']}, not {step.bad['code']}",
                        "silent")
            if step.bad["answers"] and not (answer["marked"] and answer["zeros"]):
                return f"{step.bad['what']}: the answer is not one of zeros, marked", "silent"
        if not seen.get("repeats", True):
            return "the same command gave another result", "silent"
        if seen["marked"]:
            if result.any():
                return "a failed layer's result is not zeros", "silent"
            if (errors["error"] not in step.codes or errors["error"] == ErrorCode.ROW_BUS
                    or errors["error_layer"] != layer or errors["error_expert"] not in routed
                    or errors["error_detail"] >= self.geometry.tiles):
                return f"reported as {errors}", "silent"
            return "", "reported"
        want = moe_layer(self.stimulus["x"][t, layer], [experts.get(layer, e) for e in routed],
                         self.stimulus["gates"][t, layer])
        if not np.array_equal(want, result):
            at = int(np.flatnonzero(want != result)[0])
            return f"channel {at}: result {result[at]}, golden {want[at]}", "silent"
        if errors["error"] and errors["error"] != ErrorCode.ROW_BUS:
            return f"a right result, and error {errors}", "silent"
        return "", "reported" if step.bad or errors["error"] else "right"


def _injected(step: Step, seen: dict[str, Any], late: list[int]) -> int:
    """Faults that a step really had."""
    totals = seen["totals"]
    if isinstance(step.counted, int):
        return step.counted
    if step.counted == "late":
        return sum(seen.get("start", 0) <= cycle <= seen.get("end", 0) for cycle in late)
    if step.counted == "all":
        return sum(totals.values())
    return totals[step.counted]
