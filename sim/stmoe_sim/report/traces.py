"""What ``stmoe trace info`` tells of a trace: a record, tables and a plot."""

import io
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.console import Console

from stmoe_golden.trace import DECODE, PREFILL, Trace
from stmoe_golden.traces.statistics import statistics

from .page import LINES, STYLE
from .terminal import number, percent, table

__all__ = ["PHASES", "plot_traces", "print_trace", "trace_record"]

PHASES = ("decode", "prefill", "all")
SHOWN_LAGS = (1, 2, 4, 8, 16, 32)
HEAT_LIMIT = 4.0


def trace_record(trace: Trace, file: Path, phase: str | None = None,
                 progress: Callable[[int], None] = lambda layer: None) -> dict[str, Any]:
    """Shape, contents and statistics of ``trace``, JSON data.

    Parameters
    ----------
    phase: tokens that the statistics are of, one of :data:`PHASES`; None = decode tokens, or all
        if there is none. Never those without their last layer.
    progress: called with the number of layers done.
    """
    decode = int((trace.phase == DECODE).sum())
    phase = phase or ("decode" if decode else "all")
    whole = trace.experts[:, -1, 0] >= 0
    counted = trace.select(whole if phase == "all" else whole & (
        trace.phase == (DECODE if phase == "decode" else PREFILL)))
    lengths = np.diff(trace.offsets)
    domains: dict[str, dict[str, int]] = {}
    for name, length in zip(trace.domain_names, lengths.tolist(), strict=False):
        entry = domains.setdefault(name, {"sequences": 0, "tokens": 0})
        entry["sequences"] += 1
        entry["tokens"] += length
    optional = {"token": bool((trace.token >= 0).any())} | {
        name: getattr(trace, name) is not None
        for name in ("weights", "hidden", "logits", "lookahead")}
    return {
        "file": str(file), "name": trace.name, "model": trace.model, "tokens": trace.tokens,
        "prefill_tokens": trace.tokens - decode, "decode_tokens": decode, "layers": trace.layers,
        "experts": trace.num_experts, "top_k": trace.top_k, "sequences": trace.sequences,
        "sequence_tokens": {"shortest": int(lengths.min()), "longest": int(lengths.max())},
        "domains": domains, "holds": [name for name, there in optional.items() if there],
        "d_model": None if trace.hidden is None else trace.hidden.shape[2],
        "distinct_tokens": len(Counter(trace.token[trace.token >= 0].tolist())),
        "note": trace.metadata.get("note", ""), "phase": phase, "counted_tokens": counted.tokens,
        **statistics(counted, progress=progress)}


def _sequences(count: int) -> str:
    return f"{count:,} sequence{'s' if count > 1 else ''}"


def _about(record: dict[str, Any]) -> list[str]:
    spread = record["sequence_tokens"]
    lengths = _sequences(record["sequences"]) + (
        f" of {spread['shortest']:,} to {spread['longest']:,}" if record["sequences"] > 1 else "")
    lines = [
        f"{record['name']}: model {record['model']}, {record['layers']} MoE layers, "
        f"{record['experts']} experts, top-{record['top_k']}.",
        f"{record['tokens']:,} tokens ({record['prefill_tokens']:,} prefill, "
        f"{record['decode_tokens']:,} decode) in {lengths}."]
    if record["domains"]:
        lines.append("Domains: " + "; ".join(
            f"{name}, {entry['tokens']:,} tokens in {_sequences(entry['sequences'])}"
            for name, entry in record["domains"].items()) + ".")
    names = {"token": f"token identities ({record['distinct_tokens']:,} distinct)",
             "weights": "router weights", "hidden": f"hidden states (d_model {record['d_model']})",
             "logits": "router logits", "lookahead": "look-ahead logits"}
    lines.append("Beside the routing: "
                 + (", ".join(names[name] for name in record["holds"]) or "nothing") + ".")
    if record["note"]:
        lines.append(f"Note: {record['note']}.")
    counted = "all" if record["phase"] == "all" else f"the {record['counted_tokens']:,} " + (
        record["phase"])
    lines.append(f"Statistics of {counted} tokens; by chance (k/E) {percent(record['chance'])}.")
    return lines


def print_trace(record: dict[str, Any], console: Console) -> None:
    """The record as tables: reuse by lag, prediction of the next layer, popularity, layers."""
    for line in _about(record):
        console.print(line, highlight=False)
    reuse, after, fame = record["reuse"], record["next_layer"], record["popularity"]
    overall, by_layer = after["overall"], after["by_layer"]
    looked = "lookahead" in record["holds"]
    shown = [lag for lag in SHOWN_LAGS if lag <= len(reuse["lags"])]
    tables = [
        table("Experts that the token so many before used too",
              ["lag", *map(str, shown)],
              [["reuse", *(percent(reuse["overall"][lag - 1]) for lag in shown)]]),
        table("Next layer's top-k, mean over layers",
              ["from", "recall"],
              [["co-activation with this layer's experts", percent(overall["recall"])],
               ["popularity alone", percent(overall["popular_recall"])],
               *([["look-ahead logits", percent(overall["lookahead_recall"])]] if looked else [])]),
        table("By layer; prediction and association with the layer before",
              ["layer", "reuse, lag 1", "recall", "popular", *(["look-ahead"] if looked else []),
               "bits", "shuffled", "Cramér's V", "entropy", "Gini", "top tenth", "unused"],
              [[str(layer), percent(reuse["by_layer"][layer][0]),
                *(percent(by_layer[name][layer - 1]) if layer else "-" for name in (
                    "recall", "popular_recall", *(["lookahead_recall"] if looked else []))),
                *(number(by_layer[name][layer - 1], 3) if layer else "-" for name in (
                    "mutual_information_bits", "shuffled_information_bits", "cramers_v")),
                number(fame["by_layer"]["entropy_bits"][layer]),
                number(fame["by_layer"]["gini"][layer]),
                percent(fame["by_layer"]["top_tenth_share"][layer]),
                str(fame["by_layer"]["unused"][layer])] for layer in range(record["layers"])]
              + [["mean", percent(reuse["overall"][0]), percent(overall["recall"]),
                  percent(overall["popular_recall"]),
                  *([percent(overall["lookahead_recall"])] if looked else []),
                  number(overall["mutual_information_bits"], 3),
                  number(overall["shuffled_information_bits"], 3),
                  number(overall["cramers_v"], 3), number(fame["overall"]["entropy_bits"]),
                  number(fame["overall"]["gini"]), percent(fame["overall"]["top_tenth_share"]),
                  number(fame["overall"]["unused"], 1)]])]
    if record["domain_distance"]:
        tables.append(table("Popularity by domain", ["domains", "total variation distance"],
                            [[pair, percent(value)]
                             for pair, value in record["domain_distance"].items()]))
    for part in tables:
        console.print()
        console.print(part)


def _values(values: list[float | None]) -> np.ndarray:
    """Per cent, NaN for what is unknown."""
    return np.array([np.nan if value is None else 100 * value for value in values])


def plot_traces(records: list[dict[str, Any]]) -> bytes:
    """A PNG of 1000 pixels across: reuse by lag, prediction by layer, popularity of the experts."""
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "both", "axes.titlelocation": "left",
                                     "axes.titlesize": 10.5}):
        heights = [3.1] + [max(1.9, 0.6 + 0.07 * record["layers"]) for record in records]
        figure = Figure(figsize=(10, sum(heights) + 0.3), dpi=100, layout="constrained")
        grid = figure.add_gridspec(1 + len(records), 2, height_ratios=heights)
        reuse, after = (figure.add_subplot(grid[0, column]) for column in range(2))
        for index, record in enumerate(records):
            colour = LINES[(index + 3) % len(LINES)]
            reuse.plot(record["reuse"]["lags"], _values(record["reuse"]["overall"]), color=colour,
                       marker="o", markersize=3, label=record["name"])
            layers = np.arange(1, record["layers"])
            found = record["next_layer"]["by_layer"]
            after.plot(layers, _values(found["recall"]), color=colour, marker="o", markersize=3,
                       label=record["name"])
            after.plot(layers, _values(found["popular_recall"]), color=colour, linestyle="--",
                       linewidth=1)
            if "lookahead" in record["holds"]:
                after.plot(layers, _values(found["lookahead_recall"]), color=colour,
                           linestyle="-.", linewidth=1.2)
            for axes in (reuse, after):
                axes.axhline(100 * record["chance"], color=colour, linestyle=":", linewidth=1)
        reuse.set(title="Experts that were also used so many tokens before\n(dotted: chance)",
                  xlabel="lag, tokens", ylabel="share, %", ylim=(0, None))
        reuse.set_xticks([1, 8, 16, 24, 32])
        after.set(title="Recall of a layer's top-k from the layer before, by\n",
                  xlabel="MoE layer", ylabel="recall, %", ylim=(0, 101))
        styles = {"co-activation": "-", "popularity": "--", "chance": ":"}
        if any("lookahead" in record["holds"] for record in records):
            styles |= {"look-ahead": "-."}
        after.legend([Line2D([], [], color="#555555", linestyle=style, linewidth=1.2)
                      for style in styles.values()], list(styles), ncols=4, fontsize=9,
                     frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0,
                     handlelength=2.2, columnspacing=1.2)
        after.xaxis.set_major_locator(MaxNLocator(integer=True))
        reuse.legend(fontsize=9, edgecolor="none", framealpha=0.85)
        for index, record in enumerate(records):
            axes = figure.add_subplot(grid[1 + index, :])
            counts = np.array(record["popularity"]["counts"], float)
            share = counts / counts.sum(1, keepdims=True) * record["experts"]
            image = axes.imshow(share, aspect="auto", cmap="YlGnBu", vmin=0, vmax=HEAT_LIMIT,
                                interpolation="nearest", origin="lower")
            axes.grid(visible=False)
            note = "\n".join(textwrap.wrap(record["note"], 115))
            axes.set(title=f"Popularity of experts, {record['name']}" + (
                f"\n({note})" if note else ""), xlabel="expert", ylabel="MoE layer")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(integer=True))
            figure.colorbar(image, ax=axes, extend="max", label="times the average", pad=0.01,
                            ticks=range(int(HEAT_LIMIT) + 1))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
