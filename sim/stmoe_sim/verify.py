"""Holds one run of the netlist against golden: results, predictions, decisions, counters."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import Geometry
from stmoe_golden.buffer.manager import ExpertManager, ManagerEvent, Mismatch
from stmoe_golden.compute.expert import moe_layer
from stmoe_golden.predict.table import TablePredictor

from .image import Experts
from .policies import Policy

__all__ = ["Verdict", "check_predictions_and_events", "check_results"]

ROUTE = 1
REPEATED = ("beats_link", "bank_writes")


@dataclass
class Verdict:
    """What was compared, and each difference that was found."""

    compared: dict[str, int] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Count comparisons."""
        self.compared[what] = self.compared.get(what, 0) + number

    def differ(self, text: str) -> None:
        """Record a difference."""
        self.mismatches.append(text)


def check_results(verdict: Verdict, experts: Experts, routing: np.ndarray, gates: np.ndarray,
                  x: np.ndarray, results: np.ndarray, errors: np.ndarray) -> None:
    """Every output vector against golden.

    Parameters
    ----------
    routing, gates: [token, layer, rank], expert ids and Q1.15 gate weights.
    x: int8 [token, layer, d_model]. results: int16 of the same shape. errors: bool [token, layer].
    """
    model = experts.config.model
    shared = list(range(model.experts, model.expert_ids))
    for t in range(routing.shape[0]):
        for layer in range(routing.shape[1]):
            ids = [*routing[t, layer].tolist(), *shared]
            weights = np.array([*gates[t, layer].tolist(), *[0x8000] * len(shared)], np.uint16)
            want = moe_layer(x[t, layer], [experts.get(layer, e) for e in ids], weights)
            verdict.count("results")
            if errors[t, layer]:
                verdict.differ(f"token {t}, layer {layer}: the hardware reported an error")
            elif not np.array_equal(want, results[t, layer]):
                at = int(np.flatnonzero(want != results[t, layer])[0])
                verdict.differ(f"token {t}, layer {layer}, channel {at}: "
                               f"result {results[t, layer, at]}, golden {want[at]}")


def read_log(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Records of an event log: ('E', [cycle, kind, layer, expert, slot, arg]) or ('P', ...)."""
    with path.open() as file:
        for line in file:
            kind, *fields = line.split()
            yield kind, [int(value) for value in fields]


def check_predictions_and_events(
        verdict: Verdict, geometry: Geometry, policy: Policy, log: Path,
        routing: np.ndarray, first: np.ndarray, predictor: TablePredictor) -> dict[str, Any]:
    """Every prediction and every decision of the manager against golden, in the order reported.

    Returns golden's counters, and per token and layer the predicted set for the report.
    """
    model = geometry.config.model
    shared = list(range(model.experts, model.expert_ids))
    manager = ExpertManager(geometry, retain=policy.retain, prefetch=policy.prefetch,
                            prefetch_round=geometry.config.prefetch_round)
    tokens, layers, _ = routing.shape
    rounds: list[list[tuple[int, int]]] = []
    for t in range(tokens):
        for layer in range(layers):
            rounds.append(predictor.observe(layer, routing[t, layer].tolist(), bool(first[t]))
                          if policy.predict else [])
    want = [(index % layers + 1, expert, score)
            for index, candidates in enumerate(rounds) for expert, score in candidates]
    seen = []
    step = 0
    events: list[list[int]] = []
    for kind, fields in read_log(log):
        if kind == "P":
            if not fields[4]:
                seen.append((fields[1], fields[2], fields[3]))
            continue
        events.append(fields)
        cycle, what, layer, expert, slot, arg = fields
        if what == ROUTE:
            if step >= tokens * layers:
                verdict.differ(f"cycle {cycle}: a layer was routed that nobody commanded")
                break
            experts = routing[step // layers, step % layers].tolist()
            manager.route(step % layers, experts, shared)
        try:
            verdict.count("events")
            manager.check(ManagerEvent(what, layer, expert, slot, arg))
        except Mismatch as error:
            verdict.differ(f"cycle {cycle}: {error}")
            break
        if what == ROUTE:
            manager.predict(step % layers + 1, rounds[step])
            step += 1
    if step != tokens * layers and not verdict.mismatches:
        verdict.differ(f"{step} layers were routed, {tokens * layers} commanded")
    verdict.count("predictions", len(want))
    if seen != want:
        at = next((i for i, (a, b) in enumerate(zip(seen, want, strict=False)) if a != b),
                  min(len(seen), len(want)))
        verdict.differ(f"prediction {at}: hardware {seen[at:at + 1]}, golden {want[at:at + 1]}")
    counts = predictor.counts()
    counters = manager.counters | {
        "tokens": tokens, "predicted": counts["predicted"], "table_reads": counts["row_reads"],
        "table_writes": counts["row_writes"], "score_adds": counts["score_adds"]}
    return {"counters": counters, "rounds": rounds, "events": events}


def check_counters(verdict: Verdict, found: dict[str, int], want: dict[str, int]) -> None:
    """Hardware counters against golden's, for every counter that golden has.

    Beats that are read again after a bus error, golden does not know of.
    """
    for name, value in want.items():
        if found["retries"] and name in REPEATED:
            continue
        verdict.count("counters")
        if found[name] != value:
            verdict.differ(f"counter {name}: hardware {found[name]}, golden {value}")
