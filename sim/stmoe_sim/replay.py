"""Replays a part of a recorded trace through the generated netlist, under one or more policies."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.bus.csr import register_map
from stmoe.config import AcceleratorConfig, Geometry
from stmoe_golden.predict.table import TablePredictor
from stmoe_golden.trace import Trace, Window, gates

from .image import Experts
from .memory import Memory
from .policies import Policy
from .verify import Verdict, check_counters, check_predictions_and_events, check_results
from .verilator import Simulator, build, layout

__all__ = ["Outcome", "Replay", "SimulationError", "fit"]

PUBLISHED_THRESHOLD = 2


class SimulationError(RuntimeError):
    """The simulator died, hung or refused the job; the message says where to look."""


def fit(config: AcceleratorConfig, trace: Trace) -> AcceleratorConfig:
    """``config`` with layers, experts and top-k of ``trace``; d_model, d_ff and the rest kept."""
    return config.replace(
        model_layers=trace.layers, model_experts=trace.num_experts, model_top_k=trace.top_k,
        model_name=trace.model, router_layers=min(config.router_layers, trace.layers))


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is replayed, on what.

    Parameters
    ----------
    config: as returned by :func:`fit` for the window's trace.
    window: the tokens that are profiled, replayed uncounted, and measured.
    memory: timing of the expert memory.
    attention_cycles: cycles between a layer's last result and the next layer's command.
    stall: chance of a stall per stream port and cycle, of 256.
    """

    config: AcceleratorConfig
    window: Window
    memory: Memory
    attention_cycles: int
    seed: int = 1
    stall: int = 0
    cache: Path = field(default_factory=lambda: Path("build"))

    def simulator(self, waves: bool = False) -> Simulator:
        """The simulation binary, built if it is not in the cache."""
        g = Geometry(self.config)
        return build(self.config, memory_words=g.memory_bytes // g.axi_bytes, cache=self.cache,
                     waves=waves)

    def predictor(self, policy: Policy) -> TablePredictor:
        """A golden predictor, profiled as the netlist's is."""
        model = self.config.model
        predictor = TablePredictor(
            model.layers, model.experts, model.top_k, threshold=PUBLISHED_THRESHOLD,
            use_cct=policy.use_cct, use_ht=policy.use_ht, shared_units=model.shared_units)
        predictor.profile(self.window.trace.experts, np.array(self.window.profile))
        return predictor

    def stimulus(self) -> dict[str, np.ndarray]:
        """Tokens, routing, gates and activations of the window."""
        trace, replayed = self.window.trace, self.window.replayed
        part = trace.experts[replayed]
        tokens = range(replayed.start, replayed.stop)
        weights = np.array([[gates(trace, t, layer) for layer in range(trace.layers)]
                            for t in tokens], np.uint16)
        rng = np.random.default_rng((self.seed, 0xac7))
        starts = {*trace.offsets.tolist(), replayed.start}
        shape = (*part.shape[:2], self.config.model.d_model)
        return {"experts": part.astype(np.int64), "gates": weights, "token": trace.token[replayed],
                "first": np.array([t in starts for t in tokens]),
                "x": rng.integers(-128, 128, shape, np.int8)}


@dataclass
class Outcome:
    """A finished run of one policy: counters, verdict, golden's view."""

    policy: Policy
    counters: dict[str, int]
    verdict: Verdict
    golden: dict[str, Any]
    cycles: int
    seconds: float


def table_rows(predictor: TablePredictor) -> np.ndarray:
    """Rows of LOAD_TABLE commands: pair, expert, then words of four 16-bit entries."""
    ids, confidence = predictor.rows()
    pairs, experts, k = ids.shape
    words = -(-k // 4)
    entries = np.zeros((pairs, experts, words * 4), np.uint64)
    entries[..., :k] = ids.astype(np.uint64) | confidence.astype(np.uint64) << np.uint64(14)
    shifts = np.arange(4, dtype=np.uint64) * np.uint64(16)
    packed = (entries.reshape(pairs, experts, words, 4) << shifts).sum(-1, dtype=np.uint64)
    index = np.indices((pairs, experts)).astype(np.uint64)
    return np.concatenate([index.transpose(1, 2, 0), packed], axis=-1).reshape(-1, 2 + words)


def setup_registers(registers: dict[str, Any], policy: Policy) -> list[tuple[int, int]]:
    """Register writes that select a policy."""
    control = registers["ctrl"]
    bits = {"enable": 1, "retain": policy.retain, "prefetch": policy.prefetch,
            "predict": policy.predict, "use_cct": policy.use_cct, "use_ht": policy.use_ht,
            "irq_enable": 1}
    value = sum(int(on) << control["fields"][name]["lsb"] for name, on in bits.items())
    return [(control["address"], value), (registers["threshold"]["address"], PUBLISHED_THRESHOLD)]


def run(replay: Replay, policy: Policy, simulator: Simulator, image: Path, experts: Experts,
        stimulus: dict[str, np.ndarray], progress: Callable[[int], None] = lambda done: None,
        keep: Path | None = None) -> Outcome:
    """Simulate one policy; hold outputs, predictions, decisions and counters against golden."""
    config = replay.config
    registers = register_map(Geometry(config))
    predictor = replay.predictor(policy)
    home = Path(tempfile.mkdtemp(prefix=f"stmoe-{policy.name}-"))
    try:
        outcome = _play(replay, policy, simulator, image, stimulus, predictor, registers, home,
                        progress)
        produced = np.load(home / "result.npz")
        verdict = Verdict()
        check_results(verdict, experts, stimulus["experts"], stimulus["gates"], stimulus["x"],
                      produced["results"], produced["errors"])
        golden = check_predictions_and_events(
            verdict, config, policy, config.slots, home / "events.log", stimulus["experts"],
            stimulus["first"], predictor)
        check_counters(verdict, outcome["counters_all"], golden["counters"])
        if outcome["violations"]:
            verdict.differ(f"protocol checkers: violations 0x{outcome['violations']:x}")
        return Outcome(policy, outcome["counters"], verdict, golden, outcome["cycles"],
                       outcome["seconds"])
    finally:
        if keep is not None:
            shutil.copytree(home, keep / policy.name, dirs_exist_ok=True)
        shutil.rmtree(home)


def _play(replay: Replay, policy: Policy, simulator: Simulator, image: Path,
          stimulus: dict[str, np.ndarray], predictor: TablePredictor,
          registers: dict[str, Any], home: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    config = replay.config
    no_router = np.zeros((0, 1), np.int8)
    rows = table_rows(predictor) if policy.predict else np.zeros((0, 3), np.uint64)
    arrays: dict[str, Any] = stimulus | {"table": rows, "router": no_router}
    np.savez(home / "job.npz", **arrays)
    counters = {name[:-3]: (entry["address"], registers[name[:-3] + "_hi"]["address"])
                for name, entry in registers.items()
                if name.endswith("_lo") and entry["address"] >= 0x200}
    freeze = registers["counter_ctrl"]
    job = {
        "layout": layout(config), "hash": config.hash, "warmup": replay.window.warmup,
        "attention_cycles": replay.attention_cycles, "stall": replay.stall,
        "route_on_chip": False, "memory": replay.memory.ports(config.clock_mhz),
        "memory_counters": [],
        "registers": {
            "hash": [registers["hash_lo"]["address"], registers["hash_hi"]["address"]],
            "setup": setup_registers(registers, policy),
            "freeze": [freeze["address"], 1 << freeze["fields"]["freeze"]["lsb"]],
            "counters": counters,
            "busy": [registers["status"]["address"],
                     1 << registers["status"]["fields"]["busy"]["lsb"]],
            "errors": {name: registers[name]["address"]
                       for name in ("error", "error_layer", "error_expert", "error_detail")}}}
    (home / "job.json").write_text(json.dumps(job))
    process = simulator.start(home, plusargs=[
        f"+image={image.resolve()}", "+log=events.log", f"+seed={replay.seed}"])
    try:
        while process.poll() is None:
            time.sleep(0.1)
            if (home / "progress").exists():
                progress(int((home / "progress").read_text() or 0))
    finally:
        if process.poll() is None:
            process.kill()
    if not (home / "result.json").exists():
        tail = (home / "sim.log").read_text(errors="replace").splitlines()[-15:]
        raise SimulationError("the simulator ended without a result:\n" + "\n".join(tail))
    outcome = json.loads((home / "result.json").read_text())
    if outcome["error"]:
        raise SimulationError(outcome["error"])
    return outcome
