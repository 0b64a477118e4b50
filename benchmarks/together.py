#!/usr/bin/env python3
"""Retention and prefetch together: what corrections of ``ewma`` by the predictor would save.

Golden's manager and learned predictor on a recorded trace; every transfer lands at once, so that
nothing but the choice of slots and candidates counts. Coverage: share of routed experts that need
no load on demand. Traffic: experts read, on demand and ahead, per expert routed.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from stmoe.config import AcceleratorConfig, Geometry, ModelShape, preset
from stmoe_golden.buffer.manager import FREE, ExpertManager, Kind, ManagerEvent
from stmoe_golden.buffer.retention import ahead
from stmoe_golden.buffer.worth import SLACK_MAX, Worth
from stmoe_golden.predict.quality import measured_window, stretch_of
from stmoe_golden.predict.unit import Candidate, LearnedUnit
from stmoe_golden.trace import Trace, load
from stmoe_sim.report.terminal import table

SHARES = (0.10, 0.25)
THRESHOLD = -13  # of log-odds, in units of 1/16


class Passed(ExpertManager):
    """Who is kept for the next layer and not predicted is due a visit of that layer later."""

    def predict(self, layer, candidates):
        super().predict(layer, candidates)
        if layer == self.about and not self.guessing:
            named = {expert for expert, _ in candidates}
            for (of, expert), number in self.where.items():
                if of == layer and expert not in named and number in self.order:
                    self.slots[number].due = (
                        self._due_next(layer) + self.frequencies.wait(layer, expert)) % (1 << 24)


class Paid(ExpertManager):
    """A candidate gets a slot if it is likelier to be used than the victim at its next chance."""

    def _candidate(self, layer, expert, score):
        number = self._victim() if self.order else None
        if (layer, expert) not in self.where and number is not None and self.worth is not None:
            slot = self.slots[number]
            tokens = max(1, ahead(slot.due, self.clock) / (4 * self.layers))
            if slot.state != FREE and self.worth.rate[self.worth.bucket(score)] * tokens < 65536:
                self.worth.decided(expert, score)
                self.expected.append(ManagerEvent(Kind.SKIP, layer, expert, 0))
                return
        super()._candidate(layer, expert, score)


class Both(Passed, Paid):
    """Both corrections."""


MANAGERS: dict[str, tuple[type[ExpertManager], int, int]] = {  # layers ahead; floor of 256
    "ewma, no prefetch": (ExpertManager, 0, 0), "ewma": (ExpertManager, 1, 0),
    "ewma, floor 0.3": (ExpertManager, 1, 77), "ewma, floor 0.4": (ExpertManager, 1, 102),
    "passed": (Passed, 1, 0), "paid": (Paid, 1, 0), "both": (Both, 1, 0),
    "ewma, two deep": (ExpertManager, 2, 0), "both, two deep": (Both, 2, 0)}
Rounds = list[list[Candidate]]


def rounds_of(config: AcceleratorConfig, trace: Trace, profile: tuple[int, int], start: int,
              stop: int) -> Rounds:
    """Candidates per token and layer, two layers deep, of the tokens ``start`` to ``stop``."""
    unit = LearnedUnit(config, threshold=THRESHOLD << config.linear.fraction - 4,
                       limit=config.model.experts, depth=2, token_depth=2)
    unit.profile(stretch_of(trace, *profile))
    firsts, rounds = set(trace.offsets.tolist()), []
    for t in range(start, stop):
        rounds.append(unit.token(int(trace.token[t]), t in firsts))
        rounds += [unit.observe(layer, trace.experts[t, layer].tolist(), t in firsts)
                   for layer in range(trace.layers)]
    return rounds


def play(manager: ExpertManager, trace: Trace, start: int, stop: int, rounds: Rounds,
         depth: int) -> dict[str, float]:
    """Coverage and traffic of the later half of the tokens."""

    def settle(decide: Callable[[], Any]) -> bool:
        while manager.expected or (decide() and manager.expected):
            event = manager.expected[0]
            if event.kind == Kind.ROUTE:
                event = event._replace(arg=len(manager.routing) + (SLACK_MAX << 8))
            manager.check(event)
            if event.kind in (Kind.DEMAND, Kind.PREFETCH):
                manager.check(ManagerEvent(Kind.READY, *event[1:]))
        return True

    def demand() -> bool:
        return bool(manager.demands) and (manager._demand() or True)

    def candidate() -> bool:
        return bool(manager.candidates) and (
            manager._candidate(*manager.candidates.popleft()) or True)

    begun: dict[str, int] = {}
    for step, found in enumerate(rounds):
        t, layer = divmod(step, trace.layers + 1)
        if step == len(rounds) // 2:
            begun = dict(manager.counters)
        if layer:
            experts = trace.experts[start + t, layer - 1].tolist()
            manager.route(layer - 1, experts, [])
            settle(demand)
            for expert in experts:
                manager.check(ManagerEvent(Kind.RELEASE, layer - 1, expert,
                                           manager.where[layer - 1, expert]))
        else:
            manager.token()
            settle(demand)
        for about in sorted({about for about, *_ in found}):
            if about < layer + depth:
                manager.predict(about, [(e, score) for a, e, score in found if a == about])
        settle(candidate)
    count = {name: value - begun[name] for name, value in manager.counters.items()}
    routed = count["routed"]
    return {"coverage": 1 - count["missed"] / routed, "resident": count["hit_resident"] / routed,
            "traffic": (count["missed"] + count["prefetches"]) / routed,
            "wasted": count["dropped"] / routed}


def main() -> None:
    """Measure every manager; print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--tokens", type=int, default=200, help="of which half are counted")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for path in options.traces:
        window = measured_window(load(path))
        trace, start = window.trace, window.start
        model = ModelShape(layers=trace.layers, experts=trace.num_experts,
                           top_k=trace.top_k, d_model=64, d_ff=32)
        config = replace(preset("tiny"), model=model)
        rounds = rounds_of(config, trace, window.profile, start, start + options.tokens)
        for share in SHARES:
            slots = int(share * trace.layers * trace.num_experts)
            g = Geometry(replace(config, slots=slots))
            for name, (kind, depth, floor) in MANAGERS.items():
                manager = kind(g, retain=True, prefetch=depth > 0, retention="ewma",
                               prefetch_round=config.prefetch_round,
                               worth=Worth(model.experts, config.linear.fraction, floor))
                rows.append({"trace": trace.name, "slots": slots, "manager": name} | play(
                    manager, trace, start, start + options.tokens, rounds, depth))
    Console(width=110, highlight=False).print(table(
        f"Retention and prefetch together, the later half of {options.tokens} tokens",
        ["trace", "slots", "manager", "coverage", "resident", "traffic", "wasted"],
        [[row["trace"], str(row["slots"]), row["manager"], *(
            f"{100 * row[key]:.2f} %" for key in ("coverage", "resident", "traffic", "wasted"))]
         for row in rows]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
