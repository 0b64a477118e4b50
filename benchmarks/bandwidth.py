#!/usr/bin/env python3
"""Prefetching policies against the same without prefetch, from a starved link to an ample one.

One netlist and one recorded trace; the bandwidth of the expert memory is scaled, its latencies and
the attention phase are not. A policy's *ratio* is its cycles / those of the policy that retains
what it retains and prefetches nothing: above 1, prefetch has made the run slower.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from stmoe.config import preset
from stmoe_golden.trace import load
from stmoe_sim.attention import attention_cycles
from stmoe_sim.cli.simulate import window_of
from stmoe_sim.image import write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import POLICIES, Policy, parse_policies
from stmoe_sim.replay import Replay, fit, run
from stmoe_sim.report.terminal import table

SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
POLICY = "table:none,table,linear,table:ewma,st-moe"


def base_of(policy: Policy) -> Policy:
    """The policy of the same retention that prefetches nothing."""
    if not policy.retain:
        return POLICIES["on-demand"]
    return POLICIES[policy.retention]


def sweep(replay_at: Any, policies: list[Policy], scales: list[float],
          found: dict[str, Any], done: Any) -> None:
    """Fill ``found``, bandwidth scale -> policy -> figures, with what it lacks."""
    for scale in scales:
        rows = found.setdefault(f"{scale:g}", {})
        bases = {base_of(policy).name: base_of(policy) for policy in policies}
        wanted = [*bases.values(), *policies]
        missing = [policy for policy in wanted if policy.name not in rows]
        if not missing:
            continue
        replay: Replay = replay_at(scale)
        experts = replay.experts()
        image, stimulus = write_image(experts, replay.cache), replay.stimulus()
        simulator = replay.simulator()
        for policy in missing:
            outcome = run(replay, policy, simulator, image, experts, stimulus)
            c, tokens = outcome.counters, replay.window.tokens
            rows[policy.name] = {
                "cycles": c["cycles_total"] / tokens, "beats_link": c["beats_link"] / tokens,
                "mismatches": outcome.verdict.mismatches[:3],
                "busy": c["dma_active"] / c["cycles_total"], "counters": c}
            done()


def main() -> None:
    """Sweep; print a table; write JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--slots", type=int)
    parser.add_argument("--memory", default="lpddr4-3200")
    parser.add_argument("--scales", default=",".join(f"{scale:g}" for scale in SCALES))
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--attention-cycles", type=int)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    trace = load(options.trace)
    chosen = preset(options.preset)
    if options.slots:
        chosen = chosen.replace(slots=options.slots)
    config = fit(chosen, trace)
    part = memory(options.memory)
    attention = options.attention_cycles
    if attention is None:
        attention = attention_cycles(config, part.bytes_per_cycle(config))
    policies = parse_policies(options.policy)
    window = window_of(trace, options.tokens, options.warmup, None)
    scales = [float(text) for text in options.scales.split(",")]

    def replay_at(scale: float) -> Replay:
        return Replay(config=config, window=window, memory=part.scaled(scale),
                      attention_cycles=attention, cache=options.build)

    found: dict[str, Any] = {}
    if options.json.exists():
        found = json.loads(options.json.read_text())
    sweep(replay_at, policies, scales, found,
          lambda: options.json.write_text(json.dumps(found, indent=1) + "\n"))
    console = Console(width=160, highlight=False)
    rows = []
    for scale in scales:
        at = found[f"{scale:g}"]
        for policy in policies:
            mine, base = at[policy.name], at[base_of(policy).name]
            rows.append([f"{scale:g}", policy.name, f"{mine['cycles']:,.0f}",
                         f"{base['cycles']:,.0f}", f"{mine['cycles'] / base['cycles']:.4f}",
                         f"{mine['beats_link'] / base['beats_link']:.3f}",
                         f"{base['busy']:.2f}", f"{mine['busy']:.2f}",
                         str(len(mine["mismatches"]))])
    console.print(table(trace.name, ["bandwidth", "policy", "cycles", "base", "ratio", "bytes",
                                     "busy base", "busy", "mismatches"], rows))


if __name__ == "__main__":
    main()
