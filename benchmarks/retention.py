#!/usr/bin/env python3
"""Hit rates of the retention policies on a recorded trace, without any prefetch.

Against LRU, LFU, one that is told what the token will use, the clairvoyant choice of victim, and
the bound of a machine that need not hold what it computes; see ``stmoe_golden.buffer.retention``.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console

from stmoe_golden.buffer.retention import hit_rates
from stmoe_golden.trace import load
from stmoe_sim.report.terminal import table

SHARES = (0.06, 0.10, 0.15, 0.25, 0.50)
SHOWN = ("lru", "lfu", "ewma", "told", "clairvoyant", "bound")


def main() -> None:
    """Measure every share of slots; print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--tokens", type=int, default=None, help="only the first so many")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console(width=110, highlight=False)
    found: dict[str, list[dict[str, float]]] = {}
    for path in options.traces:
        trace = load(path)
        experts = trace.experts[:options.tokens]
        total = trace.layers * trace.num_experts
        rows = found[trace.name] = []
        for share in SHARES:
            slots = int(share * total)
            rates = hit_rates(experts, trace.num_experts, slots, SHOWN)
            rows.append({"slots": slots, "share": share} | rates)
        console.print(table(
            f"{trace.name}, {len(experts)} tokens, {total} experts: hit rate",
            ["slots", *SHOWN, "ewma / clairvoyant"],
            [[str(row["slots"]), *(f"{row[name]:.3f}" for name in SHOWN),
              f"{100 * row['ewma'] / row['clairvoyant']:.1f} %"] for row in rows]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
