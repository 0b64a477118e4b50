"""The report as one self-contained HTML page."""

import io
from typing import Any

import jinja2
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .terminal import about, causes_shown, number, percent

__all__ = ["render_page"]

matplotlib.use("Agg")
STYLE = {"svg.fonttype": "path", "svg.hashsalt": "stmoe", "font.size": 10,
         "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "axes.grid.axis": "y", "grid.color": "#e3e3e3", "axes.axisbelow": True}
CAUSE_COLOURS = {
    "attention": "#c7c7c7", "receive": "#9d9d9d", "route": "#7b6fb0", "verify": "#e3c567",
    "compute": "#3f7f4c", "stall_demand": "#c8452f", "stall_late": "#f0965a", "merge": "#7fb68b",
    "output": "#5f5f5f"}
KIND_COLOURS = {"resident": "#3f7f4c", "prefetched_in_time": "#4a7fb5",
                "prefetched_late": "#f0965a", "missed": "#c8452f"}
LINES = ("#777777", "#3f7f4c", "#c8452f", "#4a7fb5", "#7b6fb0", "#b58a2c")
TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>stmoe: {{ report.trace }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin: 2em 0 .4em; }
table { border-collapse: collapse; margin: .6em 0; }
td, th { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
figure { margin: 1em 0; } figcaption { color: #555; font-size: .92em; max-width: 860px; }
svg { max-width: 100%; height: auto; }
.bad { color: #b00020; font-weight: 600; } .good { color: #2c6b39; }
dt { font-weight: 600; } dd { margin: 0 0 .4em 1.2em; }
</style></head><body>
<h1>Expert prefetching on {{ report.trace }}</h1>
{% for line in lines %}<p>{{ line }}</p>{% endfor %}
<p class="{{ 'bad' if mismatches else 'good' }}">{{ mismatches }} mismatches between hardware and
golden model.</p>
{% for table in tables %}<h2>{{ table.title }}</h2>
<table><tr>{% for c in table.columns %}<th>{{ c }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for c in row %}<td>{{ c }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endfor %}
{% for plot in plots %}<h2>{{ plot.title }}</h2>
<figure>{{ plot.svg | safe }}<figcaption>{{ plot.caption }}</figcaption></figure>
{% endfor %}
<h2>Terms</h2><dl>
<dt>recall, precision, set size</dt><dd>Routed experts that were predicted / routed; predicted that
were routed / predicted; predicted per layer in multiples of top-k. Without layer 0 and the first
token of a sequence, for which the table has nothing to say.</dd>
<dt>coverage</dt><dd>Routed experts that needed no load on demand: resident, prefetched in time, or
prefetched late (on their way when needed).</dd>
<dt>traffic</dt><dd>Bytes read / bytes that on-demand loading reads without reuse.</dd>
<dt>speed-up</dt><dd>Cycles of on-demand loading on the same netlist and trace / cycles.</dd>
</dl>
{% if differences %}<h2>Differences</h2><ul>
{% for text in differences %}<li class="bad">{{ text }}</li>{% endfor %}</ul>{% endif %}
</body></html>
"""


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg"):]


def _stacked(policies: list[dict[str, Any]], parts: dict[str, list[float]],
             colours: dict[str, str], unit: str) -> str:
    """Horizontal stacked bars, a bar per policy, first policy on top."""
    figure, axes = plt.subplots(figsize=(9.2, 0.55 * len(policies) + 1.3))
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    left = np.zeros(len(policies))
    at = np.arange(len(policies))[::-1]
    for name, values in parts.items():
        axes.barh(at, values, left=left, height=0.62, color=colours[name], edgecolor="white",
                  linewidth=0.4, label=name.replace("_", " "))
        left += values
    axes.set_yticks(at, [policy["name"] for policy in policies])
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.legend(ncols=min(5, len(parts)), loc="lower center", bbox_to_anchor=(0.5, 1.0),
                frameon=False)
    return _svg(figure)


def _plots(report: dict[str, Any]) -> list[dict[str, str]]:
    policies = report["policies"]
    causes = causes_shown(report)
    cycles = {cause: [p["stalls"][cause] / p["tokens"] for p in policies] for cause in causes}
    kinds = {kind: [100 * p[kind] for p in policies] for kind in KIND_COLOURS}
    components = {name: [p["energy"][name] / 1e6 for p in policies]
                  for name in policies[0]["energy"]}
    palette = dict(zip(components, ("#3f7f4c", "#4a7fb5", "#e3c567", "#7b6fb0", "#c8452f"),
                       strict=False))
    figure, axes = plt.subplots(figsize=(9.2, 3.4))
    layers = np.arange(report["config"]["model"]["layers"])
    for index, policy in enumerate(policies):
        axes.plot(layers, 100 * np.array(policy["coverage_by_layer"]), marker="o", markersize=3.5,
                  color=LINES[index % len(LINES)], label=policy["name"])
    axes.set_xlabel("MoE layer")
    axes.set_ylabel("coverage, %")
    axes.set_ylim(-3, 103)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(ncols=len(policies), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    technology = policies[0]["energy_technology"]
    return [
        {"title": "Where the cycles go", "svg": _stacked(
            policies, cycles, CAUSE_COLOURS, "cycles per token"),
         "caption": "Exclusive causes, counted in hardware; they sum to the total. Stall demand: "
                    "PEs wait for an expert loaded when it was routed. Stall late: they wait for a "
                    "prefetch still on its way. Attention runs elsewhere, and experts are "
                    "prefetched meanwhile."},
        {"title": "Where the routed experts were", "svg": _stacked(
            policies, kinds, KIND_COLOURS, "% of routed experts"),
         "caption": "At the moment of routing. Everything but missed is coverage."},
        {"title": "Coverage by layer", "svg": _svg(figure),
         "caption": "Share of routed experts that needed no load on demand."},
        {"title": "Energy by component", "svg": _stacked(
            policies, components, palette, f"uJ per token, {technology}"),
         "caption": "Hardware counters times an energy per operation; sources in the energy "
                    "tables. Expert memory without refresh and standby."}]


def render_page(report: dict[str, Any]) -> str:
    """The page; needs nothing but itself."""
    policies = report["policies"]
    tables = [
        {"title": "Speed and energy",
         "columns": ["policy", "cycles per token", "speed-up", "traffic", "energy per token",
                     "mismatches"],
         "rows": [[p["name"], number(p["cycles_per_token"], 0), number(p["speedup"]) + " x",
                   percent(p["traffic"]), f"{p['energy_pj_per_token'] / 1e6:,.2f} µJ",
                   p["mismatches"]] for p in policies]},
        {"title": "Accuracy and coverage",
         "columns": ["policy", "recall", "precision", "set size", "coverage", "resident",
                     "in time", "late", "missed"],
         "rows": [[p["name"], percent(p["recall"]), percent(p["precision"]),
                   "-" if p["set_size"] is None else f"{p['set_size']:.2f} k",
                   percent(p["coverage"]), percent(p["resident"]),
                   percent(p["prefetched_in_time"]), percent(p["prefetched_late"]),
                   percent(p["missed"])] for p in policies]}]
    with matplotlib.rc_context(STYLE):
        plots = _plots(report)
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(
        report=report, lines=about(report), tables=tables, plots=plots,
        mismatches=sum(p["mismatches"] for p in policies),
        differences=[f"{p['name']}: {text}" for p in policies for text in p["differences"]])
