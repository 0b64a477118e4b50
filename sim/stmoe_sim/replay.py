"""Replays a part of a recorded trace through the generated netlist, under one or more policies."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.bus.csr import register_map
from stmoe.config import AcceleratorConfig, ConfigError, Geometry
from stmoe.config.error import check_choice, check_range
from stmoe_golden.model.quantised import QuantisedModel
from stmoe_golden.predict.quality import profile_on
from stmoe_golden.predict.unit import PredictionUnit
from stmoe_golden.router.router import GateMode, ahead_logits, route
from stmoe_golden.trace import Trace, TraceError, Window, gates

from .image import Experts, ModelExperts
from .job import memory_plusargs, prediction_unit, router_scale, write_job
from .lookahead import lookahead_of
from .memory import Memory
from .policies import Policy
from .steps import PHASES, Step, steps
from .synth.netlist import Gates
from .verify import (
    Verdict,
    check_counters,
    check_first_beats,
    check_learned,
    check_predictions_and_events,
    check_results,
    read_log,
)
from .verilator import Simulator, build

__all__ = ["Outcome", "Replay", "SimulationError", "fit", "hold_against_rtl", "measure", "play",
           "run"]


class SimulationError(RuntimeError):
    """The simulator died, hung or refused the job; the message says where to look."""


def fit(config: AcceleratorConfig, trace: Trace, model: QuantisedModel | None = None,
        d_ff: int = 0) -> AcceleratorConfig:
    """``config`` with layers, experts and top-k of ``trace``; with d_model and d_ff of ``model``,
    else those of ``config``, as d_ff is where ``d_ff`` is set at run time; the rest kept."""
    if model is not None:
        config = config.replace(model_d_model=model.shape.d_model,
                                **{} if d_ff else {"model_d_ff": model.shape.d_ff})
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
    d_ff: hidden width set at run time, 0 = the configured one.
    at_a_time, phase: tokens of a layer command, and what they are ("prefill", "verify"; one at a
        time, "decode").
    route_on_chip: the router routes: by the gate weights of ``model``, which must choose what the
        trace has, or, without one, by seeded random ones, whatever the trace has.
    gates: what is simulated after synthesis, None: nothing.
    model: whose experts are computed, on the trace's activations where it has them; None: seeded
        random experts and activations.
    """

    config: AcceleratorConfig
    window: Window
    memory: Memory
    attention_cycles: int
    seed: int = 1
    stall: int = 0
    d_ff: int = 0
    at_a_time: int = 1
    phase: str = "decode"
    route_on_chip: bool = False
    model: QuantisedModel | None = None
    gates: Gates | None = None
    cache: Path = field(default_factory=lambda: Path("build"))

    def __post_init__(self) -> None:
        layers = self.config.model.layers
        check_range("at_a_time", self.at_a_time, 1, self.config.max_tokens)
        check_choice("phase", self.phase, tuple(PHASES))
        if self.window.warmup % self.at_a_time:
            raise ConfigError("at_a_time", self.at_a_time,
                              f"a divisor of the warm-up's {self.window.warmup} tokens")
        if self.route_on_chip and self.config.router_layers != layers:
            raise ConfigError("router_layers", self.config.router_layers,
                              f"{layers}, every layer, to replay with routing on chip")

    @property
    def geometry(self) -> Geometry:
        """Sizes at the hidden width of this replay."""
        return Geometry(self.config, self.d_ff)

    @property
    def steps(self) -> list[Step]:
        """What the replayed tokens are commanded as."""
        return steps(self.window.warmup + self.window.tokens, self.at_a_time, self.phase)

    def simulator(self, waves: bool = False,
                  steps: Callable[[int, int, str], None] = lambda done, of, step: None
                  ) -> Simulator:
        """The simulation binary, built if it is not in the cache; ``steps``: of synthesis."""
        g = self.geometry
        return build(self.config, memory_words=g.total_bytes // g.axi_bytes, cache=self.cache,
                     waves=waves, gates=self.gates, steps=steps)

    def experts(self) -> Experts:
        """What lies in expert memory."""
        if self.model is not None:
            return ModelExperts(self.geometry, self.model)
        return Experts(self.geometry, self.seed)

    def unit(self, policy: Policy) -> PredictionUnit | None:
        """Golden's prediction unit, profiled as the netlist's is."""
        unit = prediction_unit(self.geometry, policy)
        if unit is not None:
            ahead = None
            if policy.lookahead and self.model is not None:
                ahead, _ = lookahead_of(self.window.trace)
            profile_on(unit, self.window, ahead)
        return unit

    def stimulus(self) -> dict[str, np.ndarray]:
        """Tokens, routing, gates and activations of the window."""
        trace, replayed, model = self.window.trace, self.window.replayed, self.config.model
        tokens = range(replayed.start, replayed.stop)
        rng = np.random.default_rng((self.seed, 0xac7))
        x = rng.integers(-128, 128, (len(tokens), model.layers, model.d_model), np.int8)
        if self.model is not None and trace.hidden is not None and trace.hidden.dtype == np.int8:
            x = trace.hidden[replayed]
        starts = {*trace.offsets.tolist(), replayed.start}
        common = {"x": x, "token": trace.token[replayed],
                  "first": np.array([t in starts for t in tokens])}
        if self.route_on_chip:
            return common | self._routed(x, rng)
        weights = np.array([[gates(trace, t, layer) for layer in range(trace.layers)]
                            for t in tokens], np.uint16)
        return common | {"experts": trace.experts[replayed].astype(np.int64), "gates": weights,
                         "router": np.zeros((0, 1), np.int8)}

    def _routed(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Gate weights of every layer, golden's routing by them, its look-ahead if there is one."""
        model = self.config.model
        if self.model is not None:
            weights = self.model.router_int8
            scales = [self.model.router_registers(layer) for layer in range(model.layers)]
        else:
            weights = rng.integers(-128, 128, (model.layers, model.experts, model.d_model), np.int8)
            scales = [router_scale(model.d_model)] * model.layers
        routed = np.array([[
            route(weights[layer], row, model.top_k, mode=GateMode.SOFTMAX, renormalise=True,
                  mult=scales[layer][0], shift=scales[layer][1])
            for layer, row in enumerate(rows)] for rows in x])
        found = {"router": weights, "scale": np.array(scales),
                 "experts": routed[..., 0].astype(np.int64),
                 "gates": routed[..., 1].astype(np.uint16)}
        if self.model is not None:
            self._check_routing(found["experts"])
        if self.geometry.looks_ahead:
            found["ahead"] = np.zeros((len(x), model.layers, model.experts), np.int32)
            for t, rows in enumerate(x):
                for layer, row in enumerate(rows[:-1]):
                    found["ahead"][t, layer] = ahead_logits(weights[layer + 1], row,
                                                            *scales[layer + 1])
        return found

    def _check_routing(self, routed: np.ndarray) -> None:
        trace, start = self.window.trace, self.window.replayed.start
        wrong = np.argwhere(routed != trace.experts[self.window.replayed])
        if len(wrong):
            t, layer, rank = wrong[0]
            raise TraceError(
                f"{trace.name}: experts[{start + t}, {layer}, {rank}] is "
                f"{trace.experts[start + t, layer, rank]}, but the model's router chooses "
                f"{routed[t, layer, rank]}: routing on chip needs a trace of the model with the "
                "int8 inputs of its layers")


@dataclass
class Outcome:
    """A finished run of one policy: counters over the measured tokens and over all, verdict,
    golden's view."""

    policy: Policy
    counters: dict[str, int]
    all_counters: dict[str, int]
    verdict: Verdict
    golden: dict[str, Any]
    cycles: int
    seconds: float
    errors: dict[str, int]  # error registers at the end
    irq: bool  # whether the interrupt line was ever high


def run(replay: Replay, policy: Policy, simulator: Simulator, image: Path, experts: Experts,
        stimulus: dict[str, np.ndarray], progress: Callable[[int], None] = lambda done: None,
        keep: Path | None = None) -> Outcome:
    """Simulate one policy; hold outputs, predictions, decisions and counters against golden."""
    config = replay.config
    unit = replay.unit(policy)
    home = Path(tempfile.mkdtemp(prefix=f"stmoe-{policy.name}-"))
    try:
        write_job(home, geometry=replay.geometry, policy=policy, unit=unit,
                  stimulus=stimulus, registers=register_map(Geometry(config)),
                  memory=replay.memory, warmup=replay.window.warmup, stall=replay.stall,
                  attention_cycles=replay.attention_cycles, route_on_chip=replay.route_on_chip,
                  steps=replay.steps)
        outcome = _play(replay, simulator, image, home, progress)
        produced = np.load(home / "result.npz")
        verdict = Verdict()
        check_results(verdict, experts, stimulus["experts"], stimulus["gates"], stimulus["x"],
                      produced["results"], produced["errors"])
        golden = check_predictions_and_events(
            verdict, replay.geometry, policy, home / "events.log", stimulus["experts"],
            stimulus["token"], stimulus["first"], unit,
            stimulus.get("ahead") if policy.lookahead else None, replay.steps)
        check_counters(verdict, outcome["counters_all"], golden["counters"])
        check_first_beats(verdict, outcome["counters_all"], golden["events"])
        if replay.gates is None:
            check_learned(verdict, replay.geometry, home, unit)
        if outcome["violations"]:
            verdict.differ(f"protocol checkers: violations 0x{outcome['violations']:x}")
        return Outcome(policy, outcome["counters"], outcome["counters_all"], verdict, golden,
                       outcome["cycles"], outcome["seconds"], outcome["errors"], outcome["irq"])
    finally:
        if keep is not None:
            shutil.copytree(home, keep / policy.name, dirs_exist_ok=True)
        shutil.rmtree(home)


def hold_against_rtl(gates: Outcome, rtl: Outcome) -> None:
    """Every event, in its cycle, and every counter of a run of gates against one of RTL; what
    differs goes to the verdict of ``gates``. Results and predictions equal golden's in both."""
    verdict = gates.verdict
    for what, found, want in (("event", gates.golden["events"], rtl.golden["events"]),
                              ("counter", list(gates.all_counters.items()),
                               list(rtl.all_counters.items()))):
        verdict.count(f"{what}s of RTL", len(want))
        for index, pair in enumerate(zip_longest(found, want)):
            if pair[0] != pair[1]:
                verdict.differ(f"{what} {index}: gates {pair[0]}, RTL {pair[1]}")
                break


def measure(replay: Replay, policy: Policy, simulator: Simulator, image: Path,
            stimulus: dict[str, np.ndarray]) -> tuple[dict[str, Any], list[list[int]]]:
    """Simulate one policy without a look at its results: what the testbench says, and the events.

    The outcome has ``ended``, the cycle of the last result, beside what :func:`run` takes from it.
    """
    home = Path(tempfile.mkdtemp(prefix=f"stmoe-{policy.name}-"))
    try:
        write_job(home, geometry=replay.geometry, policy=policy, unit=replay.unit(policy),
                  stimulus=stimulus, registers=register_map(Geometry(replay.config)),
                  memory=replay.memory, warmup=replay.window.warmup, stall=replay.stall,
                  attention_cycles=replay.attention_cycles, route_on_chip=replay.route_on_chip,
                  steps=replay.steps)
        outcome = _play(replay, simulator, image, home, lambda done: None)
        return outcome, [fields for kind, fields in read_log(home / "events.log") if kind == "E"]
    finally:
        shutil.rmtree(home)


def _play(replay: Replay, simulator: Simulator, image: Path, home: Path,
          progress: Callable[[int], None]) -> dict[str, Any]:
    """Run the job in ``home``; what the testbench left in ``result.json``."""
    return play(simulator, home, [*memory_plusargs(replay.geometry, image),
                                  f"+seed={replay.seed}"], progress)


def play(simulator: Simulator, home: Path, plusargs: list[str],
         progress: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """The same with a memory as ``plusargs`` tell; :class:`SimulationError` if it fails."""
    process = simulator.start(home, plusargs=[*plusargs, "+log=events.log"])
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
