"""What ``stmoe predict`` tells of predictors: tables and plots."""

import io
import textwrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console

from .page import STYLE
from .terminal import percent, table, times

__all__ = ["plot_predictors", "print_predictors"]

COLOURS = {"popularity": "#c9b458", "popularity-ageing": "#b58a2c", "previous-token": "#8c6d5a",
           "cct": "#9bbbd9", "table": "#4a7fb5", "activation-matrix": "#7b6fb0",
           "lookahead": "#f0965a", "linear": "#3f7f4c", "combined": "#c8452f",
           "oracle": "#555555"}
OTHERS = ("#2a9d9d", "#d16ba5", "#6a994e", "#1d3557", "#bc4749", "#a67c00")
BANDS = ("#f3f3f3", "#e4ecf5", "#f5ece0", "#e9f2e6")
Pairs = list[tuple[dict[str, Any], list[dict[str, Any]]]]


def _about(record: dict[str, Any]) -> list[str]:
    lines = [
        f"{record['name']}: model {record['model']}, {record['layers']} MoE layers, "
        f"{record['experts']} experts, top-{record['top_k']}.",
        f"Profiled on {record['profile_tokens']:,} tokens{times(record['profile_passes'])}, "
        f"then {record['tokens']:,} decode tokens "
        f"of which {record['counted_tokens']:,} count (not the first of a sequence)."]
    if record["note"]:
        lines.append(f"Note: {record['note']}.")
    if record["left_out"]:
        lines.append(f"Without {' and '.join(record['left_out'])}: {record['lookahead']}.")
    elif record["lookahead"]:
        lines.append(f"Look-ahead logits: {record['lookahead']}.")
    return lines


def _size(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} k"


def print_predictors(pairs: Pairs, console: Console) -> None:
    """Tables of every trace: overall, per layer, per domain, around switches of domain."""
    for index, (record, entries) in enumerate(pairs):
        if index:
            console.print()
        for line in _about(record):
            console.print(line, highlight=False)
        for part in _tables(entries):
            console.print()
            console.print(part)


def _tables(entries: list[dict[str, Any]]) -> list[Any]:
    budgets = list(entries[0]["recall_at"])
    at = entries[0]["curve"]["budget"]
    inner = _between(entries)
    tables = [
        table("Recall of the next layer's experts, layers 1 and up, by set size; and at the "
              "predictor's own threshold",
              ["predictor", *(f"{b} k" for b in budgets), "threshold", "precision", "set size"],
              [[e["name"], *(percent(e["recall_at"][b]) for b in budgets),
                percent(e["at_threshold"]["recall"]), percent(e["at_threshold"]["precision"]),
                _size(e["at_threshold"]["set_size"])] for e in entries]),
        table("Precision, layers 1 and up, by set size",
              ["predictor", *(f"{b} k" for b in budgets)],
              [[e["name"], *(percent(e["precision_at"][b]) for b in budgets)] for e in entries]),
        table("Recall of layer 0, from the token before and the token's identity",
              ["predictor", *(f"{b} k" for b in budgets)],
              [[e["name"], *(percent(e["layer_0"]["recall_at"][b]) for b in budgets)]
               for e in entries]),
        table(f"Recall at {at} k by layer", ["layer", *(e["name"] for e in inner)],
              [[str(layer), *(percent(e["per_layer"][layer]["recall_at"][at]) for e in inner)]
               for layer in range(len(entries[0]["per_layer"]))])]
    tables += [table(f"Recall in {domain}, layers 1 and up, by set size",
                     ["predictor", *(f"{b} k" for b in budgets)],
                     [[e["name"], *(percent(e["per_domain"][domain]["recall_at"][b])
                                    for b in budgets)] for e in entries])
               for domain in entries[0]["per_domain"]]
    switches = entries[0]["switches"]
    if switches:
        after = list(switches[0]["first"])
        tables.append(table(
            f"Recall at {at} k around a switch of domain, mean of {len(switches)}",
            ["predictor", "before", *(f"first {count}" for count in after)],
            [[e["name"], percent(_mean([s["before"] for s in e["switches"]])),
              *(percent(_mean([s["first"][count] for s in e["switches"]])) for count in after)]
             for e in entries]))
    return tables


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _values(values: list[float | None]) -> np.ndarray:
    """Per cent, NaN for what is unknown."""
    return np.array([np.nan if value is None else 100 * value for value in values])


def _between(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but none and oracle, which are the same everywhere; unless there is nothing else."""
    return [e for e in entries if e["name"] not in ("none", "oracle")] or entries


def _shown(entries: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """What a plot shows, each with its colour."""
    some = _between(entries)
    spare = iter(OTHERS * len(some))
    return [(e, COLOURS.get(e["name"]) or next(spare)) for e in some]


def _plot_budgets(axes: Axes, entries: list[dict[str, Any]]) -> None:
    for entry, colour in _shown(entries):
        own = entry["at_threshold"]
        axes.plot(list(entry["set_size_at"].values()), _values(list(entry["recall_at"].values())),
                  color=colour, marker="o", markersize=3.5, label=entry["name"])
        if own["recall"] and own["set_size"] and 0.5 <= own["set_size"] <= 3:
            axes.plot([own["set_size"]], [100 * own["recall"]], color=colour, marker="D",
                      markersize=7, markerfacecolor="none", linestyle="none")
    axes.set(title="Recall by set size\n(diamond: at its own threshold)",
             xlabel="experts predicted, multiples of top-k", ylabel="recall, %", ylim=(0, 101))


def _plot_layers(axes: Axes, entries: list[dict[str, Any]]) -> None:
    at = entries[0]["curve"]["budget"]
    for entry, colour in _shown(entries):
        found = [layer["recall_at"][at] if layer["recall_at"] else None
                 for layer in entry["per_layer"]]
        axes.plot(range(len(found)), [np.nan if not value else 100 * value for value in found],
                  color=colour, marker="o", markersize=3.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=f"Recall at {at} k by layer\n(layer 0: before the token's first routing)",
             xlabel="MoE layer", ylabel="recall, %", ylim=(0, 101))


def _smooth(tokens: np.ndarray, recall: np.ndarray, edges: list[int]) -> np.ndarray:
    """Mean over five windows, of the same domain only."""
    part = np.searchsorted(edges, tokens, side="right")
    smooth = np.empty(len(recall))
    for index in range(len(recall)):
        near = slice(max(0, index - 2), index + 3)
        smooth[index] = recall[near][part[near] == part[index]].mean()
    return smooth


def _plot_curve(axes: Axes, record: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    curve = entries[0]["curve"]
    names = list(dict.fromkeys(domain["name"] for domain in record["domains"]))
    many = len(record["domains"]) > 6
    for domain in record["domains"]:
        start, stop = domain["token"], domain["token"] + domain["tokens"]
        axes.axvspan(start, stop, color=BANDS[names.index(domain["name"]) % len(BANDS)], zorder=-2,
                     linewidth=0)
        if not many:
            axes.text((start + stop) / 2, 2, domain["name"], ha="center", va="bottom",
                      color="#444444", fontsize=10)
    edges = [domain["token"] for domain in record["domains"]]
    if not many:
        for edge in edges[1:]:
            axes.axvline(edge, color="#777777", linewidth=1, linestyle="--", zorder=-1)
    for entry, colour in _shown(entries):
        tokens, recall = np.array(entry["curve"]["token"]), _values(entry["curve"]["recall"])
        middle = tokens + entry["curve"]["window"] / 2
        if entry["name"] == "none" or not len(tokens):
            continue
        axes.plot(middle, recall, color=colour, linewidth=0.6, alpha=0.35)
        for part in np.unique(np.searchsorted(edges, tokens, side="right")):
            inside = np.searchsorted(edges, tokens, side="right") == part
            axes.plot(middle[inside], _smooth(tokens, recall, edges)[inside], color=colour,
                      linewidth=1.6)
    shades = f"; shaded by domain: {', '.join(names)} in turn" if many else ""
    axes.set(title=f"Recall at {curve['budget']} k over time, windows of {curve['window']} tokens, "
                   f"thick: mean of five{shades}", xlabel="token of the trace", ylabel="recall, %",
             ylim=(0, 101))
    axes.margins(x=0.01)


def plot_predictors(pairs: Pairs) -> bytes:
    """A PNG of 1100 pixels across: per trace recall by set size, by layer and over time."""
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "both", "axes.titlelocation": "left",
                                        "axes.titlesize": 10.5}):
        figure = Figure(figsize=(11, 7.9 * len(pairs)), dpi=100, layout="constrained")
        parts = figure.subfigures(len(pairs), 1, squeeze=False)[:, 0]
        for part, (record, entries) in zip(parts, pairs, strict=True):
            note = f" ({record['note']})" if record["note"] else ""
            part.suptitle("\n".join(textwrap.wrap(
                f"{record['name']}: {record['layers']} MoE layers, {record['experts']} experts, "
                f"top-{record['top_k']}, profiled on {record['profile_tokens']:,} tokens{note}",
                115)), fontsize=11.5, fontweight="bold", x=0.01, ha="left")
            grid = part.add_gridspec(2, 3, width_ratios=(1, 1, 0.34))
            budgets = part.add_subplot(grid[0, 0])
            _plot_budgets(budgets, entries)
            _plot_layers(part.add_subplot(grid[0, 1]), entries)
            _plot_curve(part.add_subplot(grid[1, :]), record, entries)
            key = part.add_subplot(grid[0, 2])
            key.axis("off")
            key.legend(*budgets.get_legend_handles_labels(), loc="upper left", frameon=False,
                       fontsize=9.5, borderpad=0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
