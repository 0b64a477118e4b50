#!/usr/bin/env python3
"""What `ours` lacks of the next-layer oracle's saving, and what any amount of learning would give.

Timing model on a recorded trace. *Share*: of the cycles that the oracle saves over on-demand
loading. The lost share is taken apart by editing the candidates of `ours`, in the same order:
without the wrong ones; then with those that it did not name, behind the others; what is left is of
the machine and its rules. How many of the best so many experts are routed: over all tokens, and by
windows of 16.
--seen N,N: profiled on the last N tokens before the window alone, as after a cold start.
--leave-one-out: every eighth token is predicted by what has learned all the others, those behind it
too, which no machine knows: more than what learns this trace in this way could do.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from stmoe_golden.predict.linear import Linear
from stmoe_golden.predict.predictor import NEVER, Stretch
from stmoe_golden.predict.quality import judge, stretch_of
from stmoe_golden.predict.unit import learned
from stmoe_golden.timing.model import Settings, Timing, simulate
from stmoe_golden.timing.stimulus import Stimulus, rounds_by_score
from stmoe_golden.trace import load
from stmoe_sim.cli.simulate import window_of
from stmoe_sim.regimes import REGIMES, scene
from stmoe_sim.report.terminal import percent, table
from stmoe_sim.rivals import DEPTH, OURS, RIVALS, Case

WINDOW = 16
SAMPLED = 8  # of so many tokens one is left out
COUNTS = ("hit_resident", "hit_prefetched", "hit_late", "missed", "prefetches")
Scores = list[np.ndarray]  # of the next layer, of the one behind it, ...


class Bench:
    """A case, and the saving of its oracle."""

    def __init__(self, case: Case):
        self.case, self.window = case, case.window
        self.unit = self.made(1)
        self.base, self.oracle = (self.rival(name) for name in ("on-demand", "oracle"))

    def made(self, depth: int) -> Linear:
        """The predictor of `ours`, unlearned."""
        config = self.case.scene.config
        if not (self.window.trace.token >= 0).any():
            config = config.replace(linear_lexical=0, linear_pair=0, linear_previous=0)
        return learned(config, lookahead=False, depth=depth)

    def rival(self, name: str) -> Timing:
        """A rival's run."""
        return self.timing(*RIVALS[name].at(self.case))

    def timing(self, settings: Settings, stimulus: Stimulus) -> Timing:
        scene = self.case.scene
        return simulate(scene.geometry, settings, scene.memory, stimulus,
                        warmup=self.window.warmup)

    def ours(self, scores: Scores) -> Timing:
        """`ours` with these scores in place of its own."""
        config = self.case.scene.config
        rounds = rounds_by_score(config, scores, self.unit.threshold, config.model.experts)
        settings = Settings(**OURS | {"attention": self.case.scene.attention, "prefetch": True,
                                      "predictor": "linear"})
        return self.timing(settings, self.case.stimulus(rounds))

    def share(self, run: Timing) -> float:
        """Of the oracle's saving."""
        return (self.base.cycles - run.cycles) / (self.base.cycles - self.oracle.cycles)

    @property
    def replayed(self) -> Stretch:
        """The tokens of the run."""
        window = self.window.replayed
        return replace(stretch_of(self.window.trace, window.start, window.stop),
                       first=self.case.first)

    def own(self) -> Scores:
        """The scores of `ours`."""
        return [self.case.scores("linear" if depth == 1 else f"linear:depth={depth}")[0]
                for depth in range(1, DEPTH + 1)]

    def learned(self, learn: Callable[[Linear], None]) -> Scores:
        """Those of a predictor that ``learn`` teaches before."""
        found = []
        for depth in range(1, DEPTH + 1):
            unit = self.made(depth)
            learn(unit)
            found.append(unit.run(self.replayed))
        return found

    def seen(self, tokens: int) -> Scores:
        """Profiled on the last ``tokens`` before the run."""
        start = self.window.start
        stretch = stretch_of(self.window.trace, start - tokens, start)

        def learn(unit: Linear) -> None:
            for _ in range(self.window.passes):
                unit.profile(stretch)
        return self.learned(learn)

    def left_out(self) -> dict[int, float]:
        """:func:`precision` of every eighth token, by what has learned all the others."""
        whole = stretch_of(self.window.trace, 0, self.window.trace.tokens)
        tokens = range(self.window.start + self.window.warmup, self.window.replayed.stop, SAMPLED)
        found = []
        for t in tokens:
            order = np.r_[t + 1:len(whole), 0:t]
            unit = self.made(1)
            for _ in range(self.window.passes):
                unit.profile(Stretch(whole.experts[order], whole.token[order],
                                     whole.first[order] | (order == t + 1)))
            found.append(unit.run(stretch_of(self.window.trace, t, t + 1))[0])
        return precision(self, np.array(found), whole.experts[tokens])


def edited(bench: Bench, scores: Scores, name_all: bool) -> Scores:
    """Without wrong candidates; ``name_all``: with all right ones."""
    used = np.zeros(scores[0].shape, bool)
    np.put_along_axis(used, bench.case.routing, True, axis=2)
    least = bench.unit.threshold if name_all else NEVER
    return [np.where(used, np.maximum(one, least), NEVER) for one in scores]


def precision(bench: Bench, scores: np.ndarray, routed: np.ndarray) -> dict[int, float]:
    """Share of the best 1, 2, 3, 4, and k that are routed, layers 1 and up."""
    rank = judge(scores, routed, bench.unit.threshold).rank[:, 1:]
    return {m: float((rank < m).sum() / (rank[..., 0].size * m))
            for m in sorted({1, 2, 3, 4, rank.shape[2]})}


def measured(bench: Bench, left_out: bool, seen: list[int]) -> dict[str, Any]:
    """Everything, as data."""
    own, window, routed = bench.own(), bench.window, bench.case.routing
    run = bench.ours(own)
    visits = window.tokens * bench.case.scene.config.model.layers
    counted = slice(window.warmup, None)
    right = {"ours": precision(bench, own[0][counted], routed[counted])}
    for start in range(window.warmup, len(routed), WINDOW):
        part = slice(start, start + WINDOW)
        right[f"tokens {start} to {min(len(routed), part.stop)}"] = precision(
            bench, own[0][part], routed[part])
    found: dict[str, Any] = {
        "share": bench.share(run),
        "without_wrong": bench.share(bench.ours(edited(bench, own, False))),
        "all_named": bench.share(bench.ours(edited(bench, own, True))),
        "oracle_saves": 1 - bench.oracle.cycles / bench.base.cycles, "seen": {}, "right": right,
        "per_visit": {name: {what: timing.counters[what] / visits for what in COUNTS}
                      for name, timing in (("ours", run), ("oracle", bench.oracle))},
        "causes": {name: {cause: cycles / window.tokens for cause, cycles in timing.causes.items()}
                   for name, timing in (("on-demand", bench.base), ("ours", run),
                                        ("oracle", bench.oracle))}}
    for number in seen:
        scores = bench.seen(number)
        found["seen"][number] = bench.share(bench.ours(scores))
        right[f"profiled on {number:,}"] = precision(bench, scores[0][counted], routed[counted])
    if left_out:
        right["all others learned"] = bench.left_out()
    return found


def printed(found: dict[str, Any], console: Console) -> None:
    """As tables."""
    rows = [["ours", percent(found["share"]), ""]]
    steps = (("without its wrong candidates", "without_wrong"),
             ("with those that it did not name", "all_named"))
    last = found["share"]
    for name, key in steps:
        rows.append([name, percent(found[key]), percent(found[key] - last)])
        last = found[key]
    rows.append(["oracle", percent(1.0), percent(1 - last)])
    rows += [[f"profiled on {number:,} tokens", percent(share), ""]
             for number, share in found["seen"].items()]
    console.print(f"The oracle saves {percent(found['oracle_saves'])} of on-demand's cycles.",
                  highlight=False)
    console.print(table("Share of the oracle's saving", ["", "share", "gain"], rows))
    console.print(table("Of the best so many, routed", ["", *map(str, found["right"]["ours"])],
                        [[name, *map(percent, each.values())]
                         for name, each in found["right"].items()]))
    console.print(table("Per token and layer", ["", *COUNTS],
                        [[name, *(f"{one[what]:.2f}" for what in COUNTS)]
                         for name, one in found["per_visit"].items()]))
    causes = [cause for cause in found["causes"]["ours"]
              if any(one[cause] for one in found["causes"].values())]
    console.print(table("Cycles per token", ["", *causes],
                        [[name, *(f"{one[cause]:,.0f}" for cause in causes)]
                         for name, one in found["causes"].items()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--regime", choices=list(REGIMES), default="paper")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--profile-tokens", type=int)
    parser.add_argument("--profile-passes", type=int, default=1)
    parser.add_argument("--seen", default="", metavar="N,N")
    parser.add_argument("--leave-one-out", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    trace = load(given.trace)
    window = window_of(trace, given.tokens, None, given.profile_tokens, given.profile_passes)
    bench = Bench(Case(scene(REGIMES[given.regime], trace), window))
    found = measured(bench, given.leave_one_out, [int(n) for n in given.seen.split(",") if n])
    printed(found, Console(width=140))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
