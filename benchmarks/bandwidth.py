#!/usr/bin/env python3
"""Prefetching policies against the same without prefetch, from a starved link to an ample one.

One netlist, one recorded trace; the bandwidth of the expert memory is scaled, its latencies and the
attention phase are not, nor the AXI port, which may be what limits an ample memory. A policy's
*ratio* is its cycles / those of the policy that retains what it retains and prefetches nothing:
above 1, prefetch has made the run slower. Every run is held against golden. With --json FILE, runs
that FILE has already are not repeated; exit 1 if a run differs from golden or a ratio is above
--limit. With --model the timing model takes the netlist's place, and nothing is compared.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console

from stmoe.config import preset
from stmoe_golden.trace import decode_slice, load
from stmoe_sim.attention import attention_cycles
from stmoe_sim.image import write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import POLICIES, Policy, parse_policies
from stmoe_sim.replay import Replay, fit, run
from stmoe_sim.report.terminal import table
from stmoe_sim.timing import model

SCALES = "0.0625,0.125,0.25,0.5,1,2"
POLICY = "table:static,table:worth,table:ewma:static,table:ewma:worth,st-moe:static,st-moe:worth"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.3}
COLOURS = ("#4a7fb5", "#c8452f", "#3f8f5b", "#8a5aa8", "#b8860b")


def base_of(policy: Policy) -> Policy:
    """The policy of the same retention that prefetches nothing."""
    return POLICIES[policy.retention if policy.retain else "on-demand"]


def measure(replay: Replay, policies: list[Policy], found: dict[str, Any],
            done: Callable[[], None], modelled: bool) -> None:
    """Simulate each of ``policies``, and its base, that ``found`` lacks: policy -> figures."""
    wanted = {policy.name: policy for one in policies for policy in (base_of(one), one)}
    missing = [policy for name, policy in wanted.items() if name not in found]
    if not missing:
        return
    experts, stimulus = replay.experts(), replay.stimulus()
    if not modelled:
        simulator, image = replay.simulator(), write_image(experts, replay.cache)
    for policy in missing:
        wrong = 0
        if modelled:
            counters = model(replay, policy, stimulus).counters
        else:
            outcome = run(replay, policy, simulator, image, experts, stimulus)
            counters, wrong = outcome.counters, len(outcome.verdict.mismatches)
        found[policy.name] = {
            "cycles": counters["cycles_total"] / replay.window.tokens,
            "beats": counters["beats_link"] / replay.window.tokens,
            "busy": counters["dma_active"] / counters["cycles_total"],
            "skipped": counters["skipped"], "withheld": counters["rows_withheld"],
            "mismatches": wrong, "counters": counters}
        done()


def ratios(found: dict[str, Any], policy: Policy) -> tuple[float, float]:
    """Cycles and beats of a policy over those of its base."""
    mine, base = found[policy.name], found[base_of(policy).name]
    return mine["cycles"] / base["cycles"], mine["beats"] / base["beats"]


def plot(sweep: dict[str, Any], bytes_per_cycle: dict[str, float], policies: list[Policy],
         title: str, path: Path) -> None:
    """Ratios of cycles and of beats over the bandwidth; dashed where all predicted is fetched."""
    scales = sorted(sweep, key=float)
    names = list(dict.fromkeys(p.name.removesuffix(":worth").removesuffix(":static")
                               for p in policies))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        for index, axes in enumerate(figure.subplots(1, 2)):
            for policy in policies:
                name = policy.name.removesuffix(":worth").removesuffix(":static")
                axes.plot([bytes_per_cycle[scale] for scale in scales],
                          [ratios(sweep[scale], policy)[index] for scale in scales],
                          marker="o" if policy.worth else "x", markersize=4, linewidth=1.3,
                          linestyle="-" if policy.worth else "--", label=policy.name,
                          color=COLOURS[names.index(name) % len(COLOURS)])
            axes.axhline(1, color="black", linewidth=0.8)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xlabel("expert memory, bytes per cycle")
            axes.set_ylabel(("cycles", "bytes read")[index] + " / those without prefetch")
            if not index:
                axes.legend(frameon=False, fontsize=8)
        figure.savefig(path, facecolor="white", metadata={"Software": None})


def main() -> int:
    """Sweep; print a table; write JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--slots", type=int, help="of the buffer, else the preset's")
    parser.add_argument("--memory", default="lpddr4-3200")
    parser.add_argument("--scales", default=SCALES, help="of its bandwidth")
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--attention-cycles", type=int)
    parser.add_argument("--model", action="store_true")
    parser.add_argument("--limit", type=float, default=1.01, help="of a ratio")
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    trace, part = load(options.trace), memory(options.memory)
    chosen = preset(options.preset)
    config = fit(chosen.replace(slots=options.slots or chosen.slots), trace)
    attention = options.attention_cycles
    if attention is None:
        attention = attention_cycles(config, part.bytes_per_cycle(config))
    policies = parse_policies(options.policy)
    for policy in policies:
        policy.check(config, False)
    scales = [f"{float(text):g}" for text in options.scales.split(",")]
    settings = {
        "trace": trace.name, "config": f"{config.hash:016x}", "memory": part.name,
        "attention_cycles": attention, "tokens": options.tokens, "warmup": options.warmup,
        "model": options.model}
    report: dict[str, Any] = {"settings": settings, "bandwidth": {}}
    if options.json and options.json.exists():
        report = json.loads(options.json.read_text())
        if report["settings"] != settings:
            raise SystemExit(f"{options.json} is of other settings: {report['settings']}, "
                             f"not {settings}")

    def keep() -> None:
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")

    sweep, bytes_per_cycle = report["bandwidth"], {}
    for scale in scales:
        scaled = part.scaled(float(scale))
        bytes_per_cycle[scale] = (scaled.bytes_per_cycle(config) if scaled.ideal
                                  else scaled.bandwidth_gbps * 1e3 / config.clock_mhz)
        replay = Replay(
            config=config, window=decode_slice(trace, options.tokens, options.warmup),
            memory=scaled, attention_cycles=attention, cache=options.build)
        measure(replay, policies, sweep.setdefault(scale, {}), keep,
                options.model)
    rows, wrong = [], []
    for scale in scales:
        for policy in policies:
            mine, (cycles, beats) = sweep[scale][policy.name], ratios(sweep[scale], policy)
            base = sweep[scale][base_of(policy).name]
            rows.append([
                f"{bytes_per_cycle[scale]:.2f}", policy.name, f"{mine['cycles']:,.0f}",
                f"{base['cycles']:,.0f}", f"{cycles:.4f}", f"{beats:.3f}", f"{base['busy']:.2f}",
                f"{mine['skipped'] / options.tokens:.1f}",
                f"{100 * mine['withheld'] / options.tokens:.0f} %"])
            if mine["mismatches"] or base["mismatches"] or cycles > options.limit:
                wrong.append(f"{policy.name} at {bytes_per_cycle[scale]:.2f} bytes per cycle: "
                             f"ratio {cycles:.4f}, {mine['mismatches']} mismatches")
    title = (f"{trace.name}, {options.tokens} tokens, {config.slots} slots, {attention:,} cycles "
             f"of attention per layer{', timing model' if options.model else ''}")
    console = Console(width=120, highlight=False)
    console.print(table(title, [
        "bytes/cycle", "policy", "cycles/token", "without prefetch", "ratio", "bytes",
        "link without", "skipped/token", "rows withheld"], rows))
    for text in wrong:
        console.print(text)
    if options.plot:
        plot({scale: sweep[scale] for scale in scales}, bytes_per_cycle, policies, title,
             options.plot)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
