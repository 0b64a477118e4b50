"""A point of a sweep on the timing model: its record."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import stmoe.config
import stmoe_golden
from stmoe.config import ConfigError
from stmoe_golden.energy import Technology
from stmoe_golden.metrics import coverage_by_layer
from stmoe_golden.timing.model import Settings, Timing
from stmoe_golden.timing.stimulus import Rounds, Stimulus
from stmoe_golden.trace import Trace, Window, decode_slice

from ..compare import BASE, ORACLES, measure
from ..regimes import REGIMES, Scene, scene
from ..rivals import RIVALS, Case, Rival
from .cost import chip
from .sweep import Point

__all__ = ["Bench", "code_digest", "evaluate", "recall"]

KEPT = 64  # of scores and machines, in a process
SETTINGS = {item.name for item in dataclasses.fields(Settings)}


@cache
def code_digest() -> str:
    """What results depend on beside the sweep: sources of golden, configuration and this model."""
    here, total = Path(__file__).parent, hashlib.sha256()
    golden, config = (Path(str(part.__file__)).parent for part in (stmoe_golden, stmoe.config))
    files = [*golden.rglob("*.py"), *config.glob("*.py"), *here.glob("*.toml"),
             here / "evaluate.py", here / "cost.py",
             *(here.parent / name for name in (
                 "compare.py", "rivals.py", "regimes.py", "timing.py", "attention.py", "memory.py",
                 "memories.toml"))]
    for file in sorted(files, key=str):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:12]


def recall(rounds: Rounds, routing: np.ndarray, first: np.ndarray,
           experts: int) -> tuple[np.ndarray, float | None]:
    """Routed experts that were predicted by any round before them, float [token], over all layers
    but the first; and the predicted that were routed, of all tokens but the ``first`` of a
    sequence."""
    tokens, layers, top_k = routing.shape
    segment, candidate = rounds.segment, rounds.candidate
    counts = np.diff(segment["first"])
    which = np.repeat(np.arange(len(counts)), counts)  # the segment of each candidate
    token = np.searchsorted(rounds.round["segment"], which, side="right") - 1
    token //= layers + 1
    named = np.zeros((tokens, layers, experts), bool)
    expert, layer = candidate["expert"][:len(which)], segment["about"][which]
    inside = expert < experts
    named[token[inside], layer[inside], expert[inside]] = True
    routed = np.zeros_like(named)
    np.put_along_axis(routed, routing, True, axis=2)
    hits, later = (named & routed)[:, 1:], ~first
    size = int(named[later, 1:].sum())
    share = hits.sum((1, 2)) / max(1, (layers - 1) * top_k)
    return share, int(hits[later].sum()) / size if size else None


def _settings(values: dict[str, Any], group: str) -> dict[str, Any]:
    prefix = f"{group}."
    return {key[len(prefix):]: value for key, value in values.items() if key.startswith(prefix)}


def _rival(values: dict[str, Any]) -> Rival:
    """The rival of a point, with what of it is changed."""
    chosen = _settings(values, "policy")
    rival = RIVALS[chosen.pop("name")]
    predictor, threshold = chosen.pop("predictor", None), chosen.pop("threshold", None)
    limit = chosen.pop("limit", 0)
    settings = rival.settings | {key: value for key, value in chosen.items() if key in SETTINGS}
    rounds = rival.rounds
    if predictor == "none":
        rounds = None
    elif predictor or threshold is not None or limit:
        if not predictor and rival.rounds is None:
            raise ConfigError("policy.predictor", None,
                              f"given with policy.threshold or policy.limit: {rival.name} has none")

        def rounds(case: Case) -> Rounds:
            most = round(case.scene.config.model.top_k * limit)
            return case.rounds(predictor or "linear", limit=most, threshold=threshold)
    return dataclasses.replace(rival, settings=settings, rounds=rounds)


def _scene(values: dict[str, Any], trace: Trace) -> Scene:
    """The machine of a point."""
    changes = _settings(values, "regime")
    regime, part = REGIMES[changes.pop("name")], changes.pop("part", None)
    if part == "none":
        regime = dataclasses.replace(regime, part=None, link_gbps=0.0, energy=None)
    elif part is not None:
        regime = regime.behind(part)
    if changes.get("energy") == "none":
        changes["energy"] = None
    for name in ("link_gbps", "link_ns") if regime.part else ("bandwidth_scale",):
        if name in changes:
            there = f"{regime.part}; regime.part = \"none\" is a link" if regime.part else "a link"
            raise ConfigError(f"regime.{name}", changes[name],
                              f"left out: the expert memory is {there}")
    regime = dataclasses.replace(regime, **changes)
    if not regime.part and not regime.link_gbps:
        raise ConfigError("regime.link_gbps", 0, "given, above 0, for a link")
    config = {key.replace(".", "_", 1): value for key, value in _settings(values, "config").items()}
    found = scene(regime, trace, config)
    if found.geometry.slots < 2:
        raise ConfigError("config.slots", found.geometry.slots, "2 or more")
    memory = _settings(values, "memory")
    return dataclasses.replace(found, memory=dataclasses.replace(found.memory, **memory))


def _window(values: dict[str, Any], trace: Trace) -> Window:
    chosen = _settings(values, "trace")
    found = decode_slice(trace, chosen["tokens"], chosen["warmup"], chosen.get("profile_tokens"))
    if skip := chosen.get("skip", 0):
        left = found.trace.tokens - found.start - found.warmup - found.tokens
        if skip > left:
            raise ConfigError("trace.skip", skip, f"at most {left}, where the trace ends")
        found = dataclasses.replace(found, start=found.start + skip)
    return found


def _shares(case: Case) -> dict[str, float]:
    """Where the machine stands, of a layer whose experts all have to come: cycles of the link, of
    the PEs and of attention, their ratio, and the share of the experts that has a slot."""
    g, memory = case.scene.geometry, case.scene.memory
    model, cycle = g.config.model, 1e6 / g.config.clock_mhz
    beat = max(cycle, memory.column * g.axi_bytes / 64)
    link = model.active * g.blob_beats * beat / cycle
    compute = math.ceil(model.active / g.config.pes) * g.weight_words
    attention = case.scene.attention
    return {"link_cycles": link, "compute_cycles": compute, "attention_cycles": attention,
            "link_ratio": link / (compute + attention),
            "buffer_share": g.slots / (model.layers * model.expert_ids)}


@dataclass
class Bench:
    """What a process evaluates points with; what several points need is worked out once."""

    traces: dict[str, Trace]
    technology: Technology
    _scores: dict[str, dict[str, tuple[np.ndarray, int]]] = field(default_factory=dict)
    _base: dict[str, float] = field(default_factory=dict)

    def case(self, values: dict[str, Any]) -> Case:
        """The trace of a point on its machine."""
        trace = self.traces[values["trace.file"]]
        where, window = _scene(values, trace), _window(values, trace)
        key = repr((sorted(_settings(values, "trace").items()), where.config.model,
                    where.config.linear))
        while len(self._scores) > KEPT:
            del self._scores[next(iter(self._scores))]
        return Case(where, window, self._scores.setdefault(key, {}))

    def run(self, values: dict[str, Any],
            case: Case | None = None) -> tuple[dict[str, Any], Timing, Stimulus, Case]:
        """The point's rival on its machine, with all its events."""
        case = case or self.case(values)
        rival = _rival(values)
        if not rival.possible(case):
            raise ConfigError("policy.name", rival.name, f"one whose needs the trace meets; it has "
                                                         f"no {rival.needs}")
        visits = len(case.routing) * case.scene.config.model.layers
        log = visits * 32 * (case.scene.config.model.active + 4)
        while True:
            record, timing, stimulus = measure(rival, case, self.technology, log)
            if len(timing.events) < log:
                return record, timing, stimulus, case
            log *= 4

    def _on_demand(self, point: Point, case: Case) -> float:
        if point.machine not in self._base:
            while len(self._base) > KEPT:
                del self._base[next(iter(self._base))]
            self._base[point.machine] = measure(
                RIVALS[BASE], case, self.technology)[0]["cycles_per_token"]
        return self._base[point.machine]

    def evaluate(self, point: Point) -> dict[str, Any]:
        """Figures of a point, as :data:`..explore.columns.COLUMNS` has them."""
        record, timing, stimulus, case = self.run(point.values)
        g, window = case.scene.geometry, case.window
        model = g.config.model
        base = (record["cycles_per_token"] if point.values == point.values | {"policy.name": BASE}
                and len(_settings(point.values, "policy")) == 1 else self._on_demand(point, case))
        split = coverage_by_layer(timing.events.tolist(), model.layers, model.experts,
                                  window.tokens * model.layers)
        shares, precision = np.zeros(0), None
        if stimulus.rounds is not None:
            shares, precision = recall(stimulus.rounds, case.routing, case.first, model.experts)
        counted = slice(window.warmup, None)
        later = ~case.first[counted]
        known = case.scene.regime.energy is not None
        energy = record["energy_pj_per_token"] if known else None
        seconds = record["milliseconds"] * 1e-3
        return {
            "cycles_per_token": record["cycles_per_token"], "milliseconds": record["milliseconds"],
            "tokens_per_second": 1 / seconds, "speedup": base / record["cycles_per_token"],
            "coverage": record["coverage"], "traffic": record["traffic"],
            "mb_per_token": record["bytes_per_token"] / 1e6,
            "energy_mj": None if energy is None else energy * 1e-9,
            "edp_js": None if energy is None else energy * 1e-12 * seconds,
            "recall": float(shares[counted][later].mean()) if len(shares) and later.any() else None,
            "precision": precision, **_shares(case),
            "slots": g.slots, "expert_bytes": g.blob_bytes,
            **chip(g.config, "dram" if case.scene.regime.local else "sram"),
            "oracle": RIVALS[point.values["policy.name"]].name in ORACLES,
            "changes_output": not record["output"].startswith("the same"),
            "prefetches": stimulus.rounds is not None,
            "coverage_by_layer": (split[:, :3].sum(1) / np.maximum(1, split.sum(1))).tolist(),
            "recall_by_token": shares[counted].tolist(),
            **{f"cause_{cause}": float(cycles) for cause, cycles in record["causes"].items()}}


def evaluate(bench: Bench, points: Iterable[Point], code: str = "") -> list[dict[str, Any]]:
    """Records of ``points``; one that cannot be has a reason as its ``error`` and is no exception.

    ``code``: digest that this process's sources must have, as those of who asks.
    """
    if code and code != code_digest():
        raise ConfigError("--scheduler", code_digest(), f"one whose workers run this version of "
                                                        f"stmoe, {code}")
    found = []
    for point in points:
        started = time.perf_counter()
        row: dict[str, Any] = {"id": point.id, "error": None}
        try:
            row |= bench.evaluate(point)
        except Exception as error:  # of whatever kind: the sweep goes on, the reason is told
            ours = type(error).__module__.startswith("stmoe")
            row["error"] = str(error) if ours else f"{type(error).__name__}: {error}"
        found.append(row | {"seconds": time.perf_counter() - started})
    return found
