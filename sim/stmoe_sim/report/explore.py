"""A sweep's report: what is printed, and one page that needs no network."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Console

from ..explore.choose import COST, buildable, front
from ..explore.columns import COLUMNS, values
from ..explore.evaluate import Bench
from ..explore.sweep import Point, Sweep
from .terminal import number, percent, table
from .token import LANES, Token, chosen_token

__all__ = ["print_sweep", "render_sweep", "summary"]

HOME = Path(__file__).parent
SHOWN = 8  # points whose pictures the page begins with, and of which a token is shown
ROWS = 20
Line = dict[str, Any]


def summary(sweep: Sweep, lines: Sequence[Line]) -> dict[str, Any]:
    """What was swept, in figures and sentences, with the front's points by id."""
    failed = sum(line["error"] is not None for line in lines)
    seconds = sum(line["seconds"] or 0 for line in lines)
    counts = {name: len({json.dumps(point.values.get(name)) for point in sweep.points})
              for name in sweep.varied}
    fixed = {name: value for name, value in sweep.points[0].values.items()
             if name not in sweep.varied}
    text = [
        f"{len(lines)} points, {failed} without figures. Varied: "
        + (", ".join(f"{name} ({count})" for name, count in counts.items()) or "nothing") + ".",
        "Of all points: " + ", ".join(f"{name} = {value}" for name, value in fixed.items()) + ".",
        "Everything is of the timing model, which 'stmoe validate' holds against the netlist; "
        "areas are estimates for 45 nm (docs/explore.md)."]
    return {"name": sweep.name, "points": len(lines), "failed": failed, "seconds": seconds,
            "varied": list(sweep.varied), "fixed": fixed, "front": front(lines), "lines": text}


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def print_sweep(about: dict[str, Any], lines: Sequence[Line], console: Console) -> None:
    """Counts, the front among ``lines``, and reasons of those without figures."""
    for line in about["lines"][:2]:
        console.print(line, highlight=False)
    best = set(about["front"])
    found = sorted((line for line in lines if line["id"] in best), key=lambda one: -one["speedup"])
    rows = [[line["id"], *(_short(line.get(name)) for name in about["varied"]),
             number(line["speedup"]),
             number(line["milliseconds"], 3), number(line["energy_mj"], 3),
             percent(line["coverage"]), number(line["sram_mm2"]), number(line["area_mm2"])]
            for line in found[:ROWS]]
    more = f", the first {ROWS} of {len(found)}" if len(found) > ROWS else ""
    console.print(table(f"Pareto front: speed-up against SRAM and energy{more}",
                        ["point", *(name.removesuffix(".name").rpartition(".")[2]
                                    for name in about["varied"]),
                         "speed-up", "ms", "mJ", "coverage", "SRAM, mm2", "area, mm2"], rows))
    failed = [line for line in lines if line["error"] is not None]
    for line in failed[:ROWS]:
        console.print(f"{line['id']} has no figures: {line['error']} "
                      f"({values(about['varied'], line)})", highlight=False, markup=False)
    if len(failed) > ROWS:
        console.print(f"and {len(failed) - ROWS} more without figures, in Parquet, page and JSON")


def _beginning(sweep: Sweep, lines: Sequence[Line]) -> list[str]:
    """Points on the machine where the best point is, a few, the best of each policy."""
    machines = {point.id: point.machine for point in sweep.points}
    possible = [line for line in lines if buildable(line)]
    if not possible:
        return []
    best = max(possible, key=lambda line: line["speedup"])
    found: dict[str, Line] = {}
    for line in lines:
        if line["error"] is None and machines[line["id"]] == machines[best["id"]]:
            name = line["policy.name"]
            if name not in found or line["speedup"] > found[name]["speedup"]:
                found[name] = line
    ranked = sorted(found.values(), key=lambda line: line["speedup"])
    if len(ranked) > SHOWN:  # evenly, the ends among them
        ranked = [ranked[round(i * (len(ranked) - 1) / (SHOWN - 1))] for i in range(SHOWN)]
    return [line["id"] for line in ranked]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _script(data: Any) -> str:
    """JSON that may stand inside a script."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")


def render_sweep(about: dict[str, Any], lines: Sequence[Line], sweep: Sweep, bench: Bench) -> str:
    """The page: self-contained, plotly.js included."""
    from plotly.offline import get_plotlyjs

    machines: dict[str, int] = {}
    numbers = [machines.setdefault(point.machine, len(machines)) for point in sweep.points]
    points: dict[str, Point] = {point.id: point for point in sweep.points}
    beginning = _beginning(sweep, lines)
    tokens: dict[str, Token] = {name: chosen_token(points[name], bench) for name in beginning}
    best = set(about["front"])
    needed = dict.fromkeys([*COLUMNS, "trace.file", "regime.name", "policy.name", *sweep.varied])
    data = {
        "varied": list(sweep.varied), "chosen": beginning, "lanes": list(LANES.values()),
        "cost": COST[0],
        "columns": {name: column._asdict() for name, column in COLUMNS.items()}
        | {"front": {"label": "on the front", "better": "", "kind": "bool"}},
        "points": {name: [_plain(line.get(name)) for line in lines] for name in needed}
        | {"machine": numbers, "front": [line["id"] in best for line in lines]},
        "tokens": {name: {"chrome": token.chrome, "spans": token.spans, "number": token.number,
                          "microseconds": token.microseconds} for name, token in tokens.items()}}
    template = jinja2.Environment(autoescape=True).from_string((HOME / "explore.html").read_text())
    return template.render(about=about, plotly=get_plotlyjs(), data=_script(data),
                           script=(HOME / "explore.js").read_text())
