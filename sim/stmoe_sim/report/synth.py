"""Tables of ``stmoe synth``."""

from typing import Any

from rich.console import Console

from .terminal import table

__all__ = ["COLUMNS", "prediction_share", "print_synth"]

FPGA = {"lut": "LUTs", "ff": "flip-flops", "dsp": "DSPs", "bram": "block RAMs"}
COLUMNS = {
    "generic": {"logic_cells": "cells", "nand2": "NAND2", "flip_flops": "flip-flops",
                "sram_bits": "SRAM bits", "register_file_bits": "register file bits",
                "multipliers": "multipliers", "area": "mm2, estimate"},
    "asic": {"cells": "cells", "area_cells": "mm2 of cells", "sram_bits": "SRAM bits",
             "area_sram": "mm2 of SRAM, model", "area": "mm2"}}


def prediction_share(report: dict[str, Any], key: str) -> float:
    """Share of the prediction units in a total."""
    units = sum(row["count"] * row[key] for row in report["blocks"]
                if row["block"].partition(".")[0] == "predictor")
    return units / report["total"][key] if report["total"][key] else 0.0


def _shown(key: str, value: float) -> str:
    return f"{value / 1e6:.4f}" if key.startswith("area") else f"{value:,.0f}"


def print_synth(report: dict[str, Any], width: int | None = None) -> None:
    """Blocks with what all instances of each take, the total, the part, and timing if known."""
    columns = COLUMNS.get(report["target"], FPGA)
    total = report["total"]
    rows = []
    for one in report["blocks"]:
        cells = [one["block"], str(one["count"])]
        for key in columns:
            value = one[key] * one["count"]
            share = f" ({100 * value / total[key]:.1f} %)" if value else ""
            cells.append(_shown(key, value) + share)
        rows.append(cells)
    rows.append(["total", "", *(_shown(key, total[key]) for key in columns)])
    if "part" in report:
        part = report["part"]
        rows.append([part["name"], "", *(
            f"{part[key]:,} ({100 * total[key] / part[key]:.0f} % used)" if part[key] else "0"
            for key in columns)])
    console = Console(width=width, highlight=False, soft_wrap=width is None)
    console.print(table(f"{report['config']} on {report['target']}, hash {report['hash']}",
                        ["block", "count", *columns.values()], rows))
    if report["target"] in COLUMNS:
        console.print(f"prediction units: {100 * prediction_share(report, 'area'):.2f} % of the "
                      "area of what was synthesised")
    if guess := report.get("estimate"):
        _print_paths(guess, console)
    if "place" in report:
        _print_place(report["place"], console)


def _print_paths(guess: dict[str, Any], console: Console) -> None:
    by = guess.get("by", "estimate")
    how = "estimated" if by == "estimate" else f"by {by}, without layout"

    def rows(paths: list[dict[str, Any]], *first: str) -> list[list[str]]:
        return [[*(one[name] for name in first), f"{one['ns']:.2f}", str(one["levels"]),
                 one["from"], one["to"]] for one in paths]

    columns = ["ns", "levels", "from", "to"]
    if blocks := guess.get("blocks"):
        console.print(table(f"Slowest path into each block, {how}", ["block", *columns],
                            rows(blocks, "block")))
    console.print(table(f"Slowest paths, {how}: {guess['ns']:.2f} ns, {guess['mhz']:.1f} MHz",
                        columns, rows(guess["paths"])))
    if guess.get("buffers"):
        console.print(f"with {guess['buffers']:,} buffers between units and to memories, which no "
                      "table has")
    if "estimate_ns" in guess:
        console.print(f"our estimate of the same netlist: {guess['estimate_ns']:.2f} ns; of "
                      f"{guess['ends']:,} ends the greatest difference is "
                      f"{guess['estimate_differs_ns']:.1e} ns")


def _print_place(place: dict[str, Any], console: Console) -> None:
    console.print(f"placed and routed: {place['fmax_mhz']:.1f} MHz, asked "
                  f"{place['asked_mhz']:g}; seed {place['seed']}; {place['bitstream']}")
    if path := place.get("critical_path"):
        rows = [[block, f"{ns:.2f}"] for block, ns in path["blocks"].items()]
        rows.append([f"total, of it routing {path['routing_ns']:.2f}", f"{path['ns']:.2f}"])
        console.print(table(f"Critical path, {path['levels']} levels: {path['from']} to "
                            f"{path['to']}", ["block", "ns"], rows))
