"""``stmoe compare``: rivals side by side, in the timing model."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stmoe.config import ConfigError
from stmoe.config.error import check_range

from ..report.files import check_distinct, check_writable, write_bytes, write_json
from .options import Overrides, Passes, parse_overrides
from .progress import bars
from .simulate import window_of

__all__ = ["EPILOG", "compare"]

EPILOG = """\b
Examples:
  stmoe compare qwen3-30b-a3b.route.csv --regime edge
  stmoe compare gpt-oss-20b-math.npz --regime paper --rival pre-gated,st-moe-published,ours
  stmoe compare qwen3-30b-a3b.route.csv --regime edge --set slots=400 --json out.json --plot out.png
  stmoe compare qwen3-30b-a3b.route.csv --regime host --buffer 2GiB --memory nvme --context 8192
"""


UNITS = {"": 0, "B": 0, "KIB": 10, "MIB": 20, "GIB": 30}


def parse_size(option: str, text: str, low: int, high: int) -> int:
    """Bytes of a number with or without a unit, from ``low`` to ``high``."""
    found = re.fullmatch(r"(\d+)\s*([a-zA-Z]*)", text.strip())
    if not found or found[2].upper() not in UNITS:
        raise ConfigError(option, text, "bytes, or a whole number of KiB, MiB or GiB")
    size = int(found[1]) << UNITS[found[2].upper()]
    check_range(option, size, low, high)
    return size


def compare(
        trace: Annotated[Path, typer.Argument(
            metavar="TRACE", help="Routing trace, .npz or route_trace v1 .csv.")],
        regime: Annotated[str, typer.Option(
            "--regime", "-r", metavar="NAME",
            help="Machine and memory: paper, edge, ecp5, shared, host.")] = "edge",
        buffer: Annotated[str | None, typer.Option(
            "--buffer", metavar="SIZE", help="Bytes of experts that it keeps near, 64KiB to 16GiB; "
                                             "in place of the regime's.")] = None,
        memory: Annotated[str | None, typer.Option(
            "--memory", metavar="NAME", help="Where experts come from, in place of the regime's: "
                                             "an expert memory, flash, nvme or pcie.")] = None,
        context: Annotated[int | None, typer.Option(
            "--context", metavar="N", help="Tokens in the KV cache, in place of the "
                                           "regime's.")] = None,
        rival: Annotated[str, typer.Option(
            "--rival", metavar="A,B", help="Rivals; 'help' lists them.")] = "all",
        tokens: Annotated[int, typer.Option(
            "--tokens", "-n", metavar="N", help="Decode tokens to measure.")] = 64,
        warmup: Annotated[int | None, typer.Option(
            "--warmup", metavar="N", help="Decode tokens replayed before, uncounted; 16 where the "
                                          "trace has as many to spare.")] = None,
        profile: Annotated[int | None, typer.Option(
            "--profile-tokens", metavar="N",
            help="Tokens at the trace's front that predictors are profiled on.")] = None,
        passes: Passes = 1,
        overrides: Overrides = None,
        technology: Annotated[str, typer.Option(
            "--technology", metavar="NAME", help="Energy table: 45nm, 7nm, osu018 or a .toml file.",
        )] = "7nm",
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write everything as JSON.")] = None,
        plot: Annotated[Path | None, typer.Option(
            "--plot", metavar="FILE", help="Write the plot, .png.")] = None,
) -> None:
    """Compare ways to bring experts near on one machine, at the size of the real model.

    Nothing is simulated in RTL: the timing model, which 'stmoe validate' holds against it, runs
    every rival on the same link, buffer and PEs. Definitions: docs/timing-model.md.
    """
    from stmoe_golden.trace import load

    from ..compare import compare as run
    from ..energy import technology as energy_table
    from ..regimes import REGIMES, scene
    from ..report.compare import plot_rivals, print_rivals
    from ..rivals import RIVALS, Case, parse_rivals

    console = Console(width=None if Console().is_terminal else 140, soft_wrap=False)
    if rival == "help":
        for one in RIVALS.values():
            console.print(f"{one.name:18} {one.summary} ({one.source}); output: {one.output}",
                          highlight=False)
        return
    if regime not in REGIMES:
        raise ConfigError("--regime", regime, f"one of {', '.join(REGIMES)}")
    chosen, prices = parse_rivals(rival), energy_table(technology)
    check_range("--tokens", tokens, 1, 1 << 20)
    size = None if buffer is None else parse_size("--buffer", buffer, 64 << 10, 16 << 30)
    if context is not None:
        check_range("--context", context, 0, 1 << 24)
    if warmup is not None:
        check_range("--warmup", warmup, 0, 1 << 20)
    if plot is not None and plot.suffix != ".png":
        raise ConfigError("--plot", str(plot), "a file that ends in .png")
    check_distinct(json=json_file, plot=plot)
    for option, path in (("--json", json_file), ("--plot", plot)):
        if path is not None:
            check_writable(option, path)
    recorded = load(trace)
    window = window_of(recorded, tokens, warmup, profile, passes)
    machine = REGIMES[regime] if memory is None else REGIMES[regime].behind(memory)
    if size is not None:
        machine = replace(machine, buffer_bytes=size, slots=0)
    if context is not None:
        machine = replace(machine, context=context)
    case = Case(scene(machine, recorded, parse_overrides(overrides)), window)
    if size is not None and case.scene.geometry.slots * case.scene.geometry.blob_bytes > size:
        raise ConfigError("--buffer", buffer, f"at least {2 * case.scene.geometry.blob_bytes} "
                                              "bytes, two experts")
    with bars() as shown:
        task = shown.add_task("rivals", total=len(chosen) + 3)
        records = run(case, chosen, prices,
                      lambda name: shown.update(task, advance=1, description=name))
    about = print_rivals(case, records, console)
    if json_file:
        write_json(json_file, about | {"rivals": records})
        console.print(f"JSON: {json_file}", highlight=False)
    if plot:
        write_bytes(plot, plot_rivals(about, records))
        console.print(f"Plot: {plot}", highlight=False)
