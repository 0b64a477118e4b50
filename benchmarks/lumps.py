#!/usr/bin/env python3
"""What it costs the timing model to lump bursts of large experts: cycles and bytes against those of
every burst by itself, over regimes, rivals and traces.

    benchmarks/lumps.py TRACES/qwen3-30b-a3b.route.csv TRACES/gpt-oss-20b-math.npz --tokens 3
"""

import argparse
import json
from pathlib import Path

import numpy as np

from stmoe_golden.timing.model import simulate
from stmoe_golden.trace import decode_slice, load
from stmoe_sim.regimes import REGIMES, scene
from stmoe_sim.rivals import RIVALS, Case

SAME = ("missed", "routed", "map_reads", "mac_words", "layers_done")
NAMES = ("on-demand", "lru", "st-moe-published", "ours", "oracle")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("traces", nargs="+", type=Path)
    options.add_argument("--tokens", type=int, default=3)
    options.add_argument("--regime", default="paper,edge,host")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    found = []
    for path in chosen.traces:
        trace = load(path)
        window = decode_slice(trace, chosen.tokens, chosen.tokens)
        for regime in chosen.regime.split(","):
            case = Case(scene(REGIMES[regime], trace), window)
            for name in NAMES:
                settings, stimulus = RIVALS[name].at(case)
                lumped, single = (simulate(case.scene.geometry, settings, case.scene.memory,
                                           stimulus, warmup=window.warmup, grain=grain)
                                  for grain in (0, 1))
                one = {"trace": trace.name, "regime": regime, "rival": name,
                       "cycles": lumped.cycles / single.cycles - 1,
                       "bytes": lumped.counters["beats_link"] / single.counters["beats_link"] - 1,
                       "off": [key for key in SAME
                               if lumped.counters[key] != single.counters[key]]}
                found.append(one)
                print(f"{trace.name:20} {regime:6} {name:18} cycles {one['cycles']:+.3%}  bytes "
                      f"{one['bytes']:+.3%}  {' '.join(one['off'])}", flush=True)
    errors = np.abs([one["cycles"] for one in found])
    print(f"{len(found)} runs: cycles off by {np.median(errors):.3%} in the median, "
          f"{errors.max():.3%} at worst")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
