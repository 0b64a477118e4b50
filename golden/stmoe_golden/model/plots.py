"""The figures of the model card, from what :mod:`~stmoe_golden.model.evaluation` measured."""

import csv
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .error import require

__all__ = ["plot_coactivation", "plot_load", "plot_overlap", "plot_training", "read_log"]

STYLE = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False,
         "axes.spines.right": False, "figure.dpi": 100}
COLOURS = {"english": "#4a7fb5", "python": "#c8452f"}
LIFT_LIMIT = 2.0  # powers of two
NAMES = {"english": "English", "python": "Python"}


def _name(domain: str) -> str:
    return NAMES.get(domain, domain)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Columns of the training log by name; ``tokens`` and at least one domain must be there."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    require(len(rows) > 0 and "tokens" in rows[0], str(path), "no row with a column 'tokens'")
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def plot_training(log: dict[str, np.ndarray], perplexity: dict[str, float], path: Path) -> None:
    """Loss per domain over tokens; held-out ``perplexity`` by domain as points at the end."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(6.4, 3.4)
        axes = figure.subplots()
        tokens = log["tokens"] / 1e6
        for domain in perplexity:
            colour = COLOURS.get(domain, "#555555")
            axes.plot(tokens, np.exp(log[domain]), color=colour, linewidth=1,
                      label=f"{_name(domain)}, training")
            axes.plot(tokens[-1], perplexity[domain], "o", color=colour, clip_on=False, zorder=3,
                      label=f"{_name(domain)}, held out at the end: {perplexity[domain]:.2f}")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left=0)
        axes.grid(color="#e3e3e3")
        axes.set_xlabel("tokens trained on, millions")
        axes.set_ylabel("perplexity")
        axes.legend(frameon=False)
        _save(figure, path)


def plot_load(statistics: dict[str, Any], path: Path) -> None:
    """Use of every expert relative to the mean, a heat map per domain."""
    domains = statistics["domains"]
    with matplotlib.rc_context(STYLE):
        figure = _figure(7.4, 1.9 * len(domains) + 0.4)
        panels = figure.subplots(len(domains), 1, squeeze=False)[:, 0]
        for axes, (domain, data) in zip(panels, domains.items(), strict=True):
            picture = axes.imshow(data["load"], cmap="RdBu_r", vmin=0, vmax=2, aspect="auto")
            axes.set_title(_name(domain), loc="left")
            axes.set_ylabel("layer")
            axes.set_yticks(range(len(data["load"])))
        panels[-1].set_xlabel("expert")
        figure.colorbar(picture, ax=panels, extend="max", label="use / even share")
        _save(figure, path)


def _lift_panel(axes: Axes, lift: list[list[float]], title: str) -> Any:
    floor = 2.0**-LIFT_LIMIT / 2  # log of 0 is beyond the colours anyway
    picture = axes.imshow(np.log2(np.maximum(np.array(lift), floor)), cmap="RdBu_r",
                          vmin=-LIFT_LIMIT, vmax=LIFT_LIMIT, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8)
    return picture


def plot_coactivation(statistics: dict[str, Any], path: Path) -> None:
    """Lift of every pair of experts of adjacent layers, a row per domain, a panel per layer.

    The last panel is the first with its tokens shuffled: what chance looks like.
    """
    domains = statistics["domains"]
    with matplotlib.rc_context(STYLE):
        pairs = len(next(iter(domains.values()))["pairs"])
        figure = _figure(1.35 * (pairs + 1) + 0.9, 1.6 * len(domains) + 0.5)
        panels = figure.subplots(len(domains), pairs + 1, squeeze=False)
        for row, (domain, data) in zip(panels, domains.items(), strict=True):
            for at, pair in enumerate(data["pairs"]):
                picture = _lift_panel(row[at], pair["lift"],
                                      f"{at}, {at + 1}: V = {pair['cramers_v']:.2f}")
            _lift_panel(row[-1], data["pairs"][0]["shuffled_lift"], "0, 1 shuffled")
            row[0].set_ylabel(f"{_name(domain)}\nexpert")
        figure.supxlabel("expert of the next layer", fontsize=9)
        bar = figure.colorbar(picture, ax=panels, extend="both", label="observed / independent")
        ticks = np.arange(-LIFT_LIMIT, LIFT_LIMIT + 1)
        bar.set_ticks(ticks.tolist(), labels=[f"{2.0**t:g}" for t in ticks])
        _save(figure, path)


def plot_overlap(statistics: dict[str, Any], path: Path) -> None:
    """Experts shared with earlier tokens, a heat map of lag and layer per domain."""
    domains = statistics["domains"]
    with matplotlib.rc_context(STYLE):
        figure = _figure(3.6 * len(domains) + 0.8, 3.0)
        panels = figure.subplots(1, len(domains), squeeze=False)[0]
        shared = {name: np.array(data["overlap"]["mean"]).T for name, data in domains.items()}
        low = next(iter(domains.values()))["overlap"]["uniform"]
        high = max(float(value.max()) for value in shared.values())
        for axes, (domain, mean) in zip(panels, shared.items(), strict=True):
            picture = axes.imshow(mean, cmap="viridis", aspect="auto", vmin=low, vmax=high)
            for (layer, lag), value in np.ndenumerate(mean):
                axes.text(lag, layer, f"{value:.2f}", ha="center", va="center", fontsize=6.5,
                          color="black" if value > (low + high) / 2 else "white")
            axes.set_title(_name(domain), loc="left")
            axes.set_xticks(range(mean.shape[1]), [str(i + 1) for i in range(mean.shape[1])])
            axes.set_yticks(range(len(mean)))
            axes.set_xlabel("lag, tokens")
        panels[0].set_ylabel("layer")
        figure.colorbar(picture, ax=panels, label=f"shared experts (random: {low:g})")
        _save(figure, path)
