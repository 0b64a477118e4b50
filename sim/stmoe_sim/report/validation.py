"""The timing model against the netlist: table and plot."""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from rich.console import Console

from .terminal import table

__all__ = ["plot_validation", "print_validation"]

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.3}
INK, OTHER = "#4a7fb5", "#c8452f"


def _per_cent(value: float) -> str:
    return f"{100 * value:.3f} %"


def print_validation(about: dict[str, Any], results: list[dict[str, Any]],
                     console: Console) -> None:
    """Errors of cycles in total and by cause, counts that differ, and the worst points."""
    console.print(
        f"{about['points']} points. Error of total cycles: median {_per_cent(about['median'])}, "
        f"worst {_per_cent(about['worst'])}; none in {about['exact_cycles']}. Counts of accesses "
        f"and bytes the same in {about['exact_counts']}, every event in its cycle in "
        f"{about['exact_events']}.", highlight=False)
    console.print(table(
        "Error by cause, of all cycles", ["cause", "median", "worst"],
        [[cause, _per_cent(off["median"]), _per_cent(off["worst"])]
         for cause, off in about["causes"].items()]))
    worst = sorted(results, key=lambda one: -abs(one["error"]))[:5]
    console.print(table(
        "Worst points", ["point", "netlist", "d_ff", "memory", "attention", "policy", "cycles",
                         "model", "error"],
        [[str(one["number"]), str(one["netlist"]), str(one["d_ff"]),
          f"{one['memory']} x{one['scale']:g}", str(one["attention"]), one["policy"],
          f"{one['cycles_rtl']:,}", f"{one['cycles_model']:,}", _per_cent(one["error"])]
         for one in worst]))


def _totals(axes: Axes, results: list[dict[str, Any]]) -> None:
    rtl = np.array([one["cycles_rtl"] for one in results])
    error = 100 * np.array([one["error"] for one in results])
    exact = np.array([not one["counts"] for one in results])
    for mask, colour, label in ((exact, INK, "counts the same"), (~exact, OTHER, "counts differ")):
        if mask.any():
            axes.plot(rtl[mask], error[mask], "o", markersize=3.5, color=colour,
                      label=f"{label} ({mask.sum()})")
    for limit, style in ((1, ":"), (3, "--")):
        axes.axhline(limit, color="#777777", linewidth=0.8, linestyle=style)
        axes.axhline(-limit, color="#777777", linewidth=0.8, linestyle=style)
    axes.set(xscale="log", xlabel="cycles on the netlist", ylabel="error of the model, %",
             title="Total cycles (dotted 1 %, dashed 3 %)", ylim=(-3.5, 3.5))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, loc="upper right")


def _causes(axes: Axes, results: list[dict[str, Any]]) -> None:
    names = [name for name in results[0]["causes_model"] if name != "receive"]
    for at, name in enumerate(names):
        off = [100 * (one["causes_model"][name] - one["causes_rtl"][name]) / one["cycles_rtl"]
               for one in results]
        axes.plot(np.linspace(at - 0.3, at + 0.3, len(off)), off, ".", markersize=3, color=INK)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.set(ylabel="error, % of all cycles", title="By cause")


def plot_validation(results: list[dict[str, Any]]) -> bytes:
    """A PNG: error of total cycles by their number, and of every cause."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
        totals, causes = figure.subplots(1, 2)
        _totals(totals, results)
        _causes(causes, results)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
