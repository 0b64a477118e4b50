"""Rivals side by side: table and plot."""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from ..rivals import Case
from .terminal import number, percent, table, times

__all__ = ["plot_rivals", "print_rivals"]

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.3, "axes.grid.axis": "x"}
COLOURS = {"attention": "#b9c4cf", "receive": "#8a97a3", "merge": "#d9c9a3", "compute": "#3f8f5b",
           "stall_demand": "#c8452f", "stall_late": "#e8a33d", "verify": "#8a5aa8"}


def print_rivals(case: Case, records: list[dict[str, Any]], console: Console) -> dict[str, Any]:
    """Prints what was compared, and the table; the former as a dictionary."""
    scene, window = case.scene, case.window
    g, config = scene.geometry, scene.config
    model = config.model
    about = {
        "trace": window.trace.name, "note": window.trace.metadata.get("note", ""),
        "regime": scene.regime.name, "summary": scene.regime.summary, "tokens": window.tokens,
        "warmup_tokens": window.warmup, "profile_tokens": window.profile[1],
        "profile_passes": window.passes, "expert_bytes": g.blob_bytes, "slots": g.slots,
        "experts_total": model.layers * model.expert_ids, "attention_cycles": scene.attention,
        "config": config.to_dict()}
    console.print(
        f"{about['trace']}: {window.tokens} decode tokens after {window.warmup} of warm-up, "
        f"predictors profiled on {window.profile[1]:,}{times(window.passes)}; "
        f"{model.layers} MoE layers, {model.experts} experts, top-{model.top_k}, d_model "
        f"{model.d_model}, d_ff {model.d_ff}, {g.blob_bytes:,} bytes each.\n"
        f"{scene.regime.name}: {scene.regime.summary}. {g.slots} slots "
        f"({percent(g.slots / about['experts_total'])} of all experts), attention "
        f"{scene.attention:,} cycles per layer.", highlight=False)
    rows = []
    for one in records:
        energy = one["energy_pj_per_token"]
        rows.append([
            one["name"], number(one["milliseconds"], 3), number(one["speedup"]),
            percent(one["coverage"]), f"{one['bytes_per_token'] / 1e6:,.2f}",
            "-" if energy is None else f"{energy / 1e9:,.3f}",
            "-" if one["edp"] is None else f"{one['edp']:.3g}",
            percent(one["share_of_oracle"]), percent(one["share_of_clairvoyant"]),
            "" if one["output"] == "the same" else "changes"])
    console.print(table(
        "Per token", ["rival", "ms", "speed-up", "coverage", "MB", "mJ", "EDP, Js", "of oracle",
                      "of clairvoyant", "output"], rows))
    return about


def plot_rivals(about: dict[str, Any], records: list[dict[str, Any]]) -> bytes:
    """A PNG: cycles per token by cause, and bytes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.6 + 0.32 * len(records)), dpi=110, layout="constrained")
        figure.suptitle(f"{about['trace']}, {about['regime']}: {about['slots']} slots, "
                        f"{about['tokens']} tokens", fontsize=10, x=0.01, ha="left")
        time, traffic = figure.subplots(1, 2, width_ratios=(2.2, 1), sharey=True)
        at = np.arange(len(records))[::-1]
        per = [one["milliseconds"] / one["cycles_per_token"] for one in records]
        left = np.zeros(len(records))
        for cause, colour in COLOURS.items():
            width = np.array([one["causes"][cause] * ms
                              for one, ms in zip(records, per, strict=True)])
            time.barh(at, width, left=left, color=colour, label=cause.replace("_", " "), height=0.7)
            left += width
        for y, one in zip(at, records, strict=True):
            time.text(one["milliseconds"], y, f" {one['speedup']:.2f} x", va="center", fontsize=8)
        time.set_yticks(at, [one["name"] for one in records])
        time.set(xlabel="ms per token, by cause", xlim=(0, 1.12 * left.max()))
        time.legend(frameon=False, fontsize=8, ncols=4, loc="lower center",
                    bbox_to_anchor=(0.5, 1.0))
        traffic.barh(at, [one["bytes_per_token"] / 1e6 for one in records], color="#4a7fb5",
                     height=0.7)
        traffic.set(xlabel="MB read per token")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
