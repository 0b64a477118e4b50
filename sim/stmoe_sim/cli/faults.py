"""``stmoe faults``: a campaign of faults on the netlist."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stmoe.config.error import check_range

from .options import DEFAULT_PRESET, ConfigFile, Overrides, PresetName, load_config
from .progress import stages

__all__ = ["EPILOG", "faults"]

SHOWN = 10  # problems
EPILOG = """\b
Examples:
  stmoe faults
  stmoe faults --runs 2 --tokens 8 --seed 7 --json faults.json
  stmoe faults --set integrity=false
The last one shows what the CRCs are for: wrong results, exit 1.
"""


def faults(
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        runs: Annotated[int, typer.Option(
            "--runs", "-n", metavar="N",
            help="Runs, of other policy, memory and slots each.")] = 12,
        tokens: Annotated[int, typer.Option(
            "--tokens", metavar="N", help="Tokens of a run.")] = 24,
        seed: Annotated[int, typer.Option(
            "--seed", metavar="N", help="Of all that is drawn.")] = 1,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write table and problems as JSON.")] = None,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where netlists and images are cached.",
        )] = Path("build"),
) -> None:
    """Inject faults into the simulated hardware and see what becomes of each.

    Ports stand still, the memory answers with errors or with wrong data, the reset comes in the
    middle of a layer, prefetches come late or twice, commands come in bursts or are wrong. Every
    result is held against the golden model. A fault must leave the result right or be reported:
    exit 1 if one is silent, or hangs the hardware.
    """
    from ..faults import campaign_replay, run_campaign
    from ..report.files import check_folder, check_writable, write_json

    chosen = load_config(preset, config, overrides)
    check_range("--runs", runs, 1, 10_000)
    check_range("--tokens", tokens, 1, 128)
    check_range("--seed", seed, 0, 2**31 - 1)
    if json_file is not None:
        check_writable("--json", json_file)
    check_folder("--build", build)
    started = time.monotonic()
    with stages() as progress:
        report = run_campaign(campaign_replay(chosen, tokens, seed, build), runs, progress)
    seconds = time.monotonic() - started
    _print(report, seconds)
    if json_file is not None:
        write_json(json_file, {
            "preset": config.stem if config else preset or DEFAULT_PRESET,
            "config": chosen.to_dict(), "runs": runs, "tokens": tokens, "seed": seed,
            "faults": report.table, "problems": report.problems, "passed": report.passed,
            "cycles": report.cycles, "seconds": round(seconds, 1)})
        typer.echo(f"JSON: {json_file}")
    if not report.passed:
        raise typer.Exit(1)


def _print(report: Any, seconds: float) -> None:
    from ..faults import OUTCOMES
    from ..report.terminal import table

    columns = ("steps", "injected", *OUTCOMES)
    rows = [[kind, *(f"{row[name]:,}" for name in columns)]
            for kind, row in report.table.items() if row["steps"]]
    rows.append(["total", *(f"{report.total(name):,}" for name in columns)])
    console = Console(width=None if Console().is_terminal else 120, soft_wrap=False)
    console.print(table("Faults and what became of them", ["fault", *columns], rows))
    for text in report.problems[:SHOWN]:
        console.print(text, highlight=False, markup=False)
    if len(report.problems) > SHOWN:
        console.print(f"and {len(report.problems) - SHOWN} more", highlight=False)
    verdict = "every fault left the result right or was reported" if report.passed else "FAILED"
    console.print(f"{report.cycles:,} cycles in {seconds:.0f} s: {verdict}.", highlight=False)
