"""The report on a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stmoe_golden.metrics import CAUSES

__all__ = ["about", "causes_shown", "number", "percent", "print_report", "table", "times"]


def number(value: float | None, digits: int = 2) -> str:
    """A plain number, a dash for None."""
    return "-" if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """A share in per cent, a dash for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def times(passes: int) -> str:
    """How often a profile was gone over, if more than once."""
    return f", {passes} times over" if passes > 1 else ""


def about(report: dict[str, Any]) -> list[str]:
    """What was replayed on what, in sentences; the same on terminal and page."""
    config = report["config"]
    model = config["model"]
    lines = [
        f"{report['trace']}: {report['tokens']} decode tokens after {report['warmup_tokens']} of "
        f"warm-up, predictors profiled on {report['profile_tokens']}"
        f"{times(report['profile_passes'])}; {model['layers']} MoE "
        f"layers, {model['experts']} experts, top-{model['top_k']}."]
    if report["trace_note"]:
        note = report["trace_note"]
        lines.append(f"Trace: {note[0].upper()}{note[1:]}.")
    shared = report["shared_units"]
    sizes = (f"d_model {model['d_model']}, d_ff {report['d_ff']} "
             f"({report['expert_bytes']:,} bytes each)")
    lines += [
        (f"Routing is the trace's; experts are scaled to {sizes} with seeded random weights"
         if report["weights"] == "random" else
         f"Routing, activations and experts are those of {report['weights']}, {sizes}")
        + (f"; {shared} shared per layer." if shared else ".")
        + (" The on-chip router routes." if report["routing"] == "hardware" else ""),
        f"Preset {report['preset']}, hash {report['config_hash']}: {report['slots']} slots "
        f"({percent(report['slots'] / report['experts_total'])} of {report['experts_total']} "
        f"experts), {config['pes']} PEs of {config['rows']} x {config['lanes']} MACs, "
        f"{config['clock_mhz']} MHz; memory {report['memory']}; attention "
        f"{report['attention_cycles']:,} cycles per layer."]
    active = model["top_k"] + shared
    if report["streams_through"]:
        lines.append("An expert is larger than half of the buffer: its tiles stream through a "
                     "slot, nothing is kept or fetched ahead.")
    elif report["slots"] <= (model["layers"] - 1) * active:
        lines.append(f"A token uses {model['layers'] * active} experts, layer by layer, more than "
                     "there are slots: under lru alone each has left before its next use.")
    return lines


def causes_shown(report: dict[str, Any]) -> list[str]:
    """Causes of cycles that occur at all."""
    return [cause for cause in CAUSES
            if any(policy["stalls"][cause] for policy in report["policies"])]


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table, first column to the left, the others to the right."""
    made = Table(title=Text(title), box=None, pad_edge=False, title_justify="left",
                  title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        made.add_row(*row)
    return made


def print_report(report: dict[str, Any], console: Console) -> None:
    """Tables of accuracy, coverage, speed, causes of cycles and energy; then differences."""
    policies = report["policies"]
    for line in about(report):
        console.print(line, highlight=False)
    causes = causes_shown(report)
    technology = policies[0]["energy_technology"]
    tables = (
        table("Speed", ["policy", "cycles/token", "speed-up", "traffic", "energy/token",
                         "mismatches"],
               [[p["name"], number(p["cycles_per_token"], 0), number(p["speedup"]) + " x",
                 percent(p["traffic"]), f"{p['energy_pj_per_token'] / 1e6:,.2f} uJ",
                 str(p["mismatches"])] for p in policies]),
        table("Prediction of the next layer, and where its experts were",
               ["policy", "recall", "precision", "set size", "coverage", "resident", "in time",
                "late", "missed"],
               [[p["name"], percent(p["recall"]), percent(p["precision"]),
                 "-" if p["set_size"] is None else f"{p['set_size']:.2f} k",
                 percent(p["coverage"]), percent(p["resident"]), percent(p["prefetched_in_time"]),
                 percent(p["prefetched_late"]), percent(p["missed"])] for p in policies]),
        table("Cycles per token by cause", ["policy", *(c.replace("_", " ") for c in causes)],
               [[p["name"], *(number(p["stalls"][c] / p["tokens"], 0) for c in causes)]
                for p in policies]),
        table(f"Energy per token, uJ ({technology})", ["policy", *policies[0]["energy"]],
               [[p["name"], *(number(value / 1e6) for value in p["energy"].values())]
                for p in policies]))
    for part in tables:
        console.print()
        console.print(part)
    console.print()
    compared = {name: sum(p["compared"].get(name, 0) for p in policies)
                for name in ("results", "predictions", "events", "counters", "rows")}
    console.print(
        "Held against golden: " + ", ".join(f"{count:,} {name}"
                                            for name, count in compared.items() if count)
        + f". Simulated at {report['simulated_cycles_per_second']:,.0f} cycles/s per core.",
        highlight=False)
    for policy in policies:
        for text in policy["differences"]:
            console.print(f"MISMATCH {policy['name']}: {text}", highlight=False, style="red")
