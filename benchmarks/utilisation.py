#!/usr/bin/env python3
"""How busy the MAC array is with resident experts, and the link with experts back to back.

Both from the hardware's counters over a replay of random routing. The array's share is weight words
multiplied / (PEs x cycles), of the cycles in which experts are computed and of all cycles of a
layer (receiving, verifying, merging, output included). The link's share is beats received / cycles
in which a transfer is in hand, against one beat per cycle.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console

from stmoe.config import preset
from stmoe_golden.trace import Trace, decode_slice
from stmoe_sim.image import write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import POLICIES
from stmoe_sim.replay import Replay, fit, run
from stmoe_sim.report.terminal import table

LAYERS, EXPERTS, TOP_K, TOKENS, WARMUP = 2, 8, 4, 24, 16
SHAPES = ((64, 32), (128, 64), (256, 128))


def random_trace(seed: int) -> Trace:
    """Every layer of every token uses ``TOP_K`` experts drawn at random."""
    rng = np.random.default_rng(seed)
    experts = np.array([[rng.permutation(EXPERTS)[:TOP_K] for _ in range(LAYERS)]
                        for _ in range(TOKENS + WARMUP + 1)])
    return Trace(name="random", model="random", experts=experts, num_experts=EXPERTS,
                 offsets=np.array([0, len(experts)]))


def measure(d_model: int, d_ff: int, cache: Path) -> dict[str, float]:
    """Shares of peak of the preset tiny with experts of this size."""
    trace = random_trace(1)
    config = fit(preset("tiny").replace(
        model_d_model=d_model, model_d_ff=d_ff, max_d_ff=0, slots=LAYERS * EXPERTS), trace)
    found: dict[str, float] = {"d_model": d_model, "d_ff": d_ff}
    for policy, part in (("lru", "ideal"), ("on-demand", "ideal"), ("on-demand", "lpddr4-3200")):
        replay = Replay(config=config, window=decode_slice(trace, TOKENS, WARMUP, 1),
                        memory=memory(part), attention_cycles=0, cache=cache)
        experts = replay.experts()
        outcome = run(replay, POLICIES[policy], replay.simulator(), write_image(experts, cache),
                      experts, replay.stimulus())
        if outcome.verdict.mismatches:
            raise SystemExit(f"differs from golden: {outcome.verdict.mismatches[0]}")
        c = outcome.counters
        if policy == "lru":
            if c["missed"]:
                raise SystemExit(f"{c['missed']} experts were not resident")
            layer = c["cycles_total"] - c["cycles_attention"]
            found["array_of_compute"] = c["mac_words"] / (config.pes * c["cycles_compute"])
            found["array_of_layer"] = c["mac_words"] / (config.pes * layer)
        else:
            found[f"link_{part}"] = c["beats_link"] / c["dma_active"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(d_model, d_ff, options.build) for d_model, d_ff in SHAPES]
    columns = {"array_of_compute": "array, computing", "array_of_layer": "array, whole layer",
               "link_ideal": "link, ideal", "link_lpddr4-3200": "link, lpddr4-3200"}
    Console().print(table("Share of peak", ["d_model x d_ff", *columns.values()], [
        [f"{row['d_model']} x {row['d_ff']}", *(f"{100 * row[key]:.1f} %" for key in columns)]
        for row in rows]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
