"""``stmoe bitstream``: the file that a board is loaded with."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stmoe.boards.tops import board as board_named
from stmoe.boards.tops import boards
from stmoe.config import ConfigError
from stmoe.config.error import check_range

from .options import ConfigFile, Overrides, PresetName, load_config
from .progress import steps

__all__ = ["EPILOG", "bitstream"]

EPILOG = """\b
Examples:
  stmoe bitstream --board ulx3s-85f
  stmoe bitstream --board ulx3s-85f --mhz 25 --seed 3 --json ulx3s.json
  stmoe bitstream --board ecpix5-85f --preset board-small -s slots=8
Then load it, as with openFPGALoader, and: stmoe bringup. docs/bring-up.md goes through it.
"""


def bitstream(
        board: Annotated[str, typer.Option(
            "--board", metavar="NAME", help=f"One of {', '.join(boards())}.")],
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        mhz: Annotated[float, typer.Option(
            "--mhz", metavar="N", help="Clock of the accelerator; 0: the board's.")] = 0.0,
        seed: Annotated[int, typer.Option(
            "--seed", metavar="N", help="Of the placement.")] = 1,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write the report as JSON.")] = None,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where netlists and results are cached.",
        )] = Path("build"),
) -> None:
    """Synthesise, place and route the top of a board, at its own pins and clock.

    The configuration is the board's preset, unless one is given. What is done is kept: a run that
    was ended goes on where it was. Exit 1 if the clock is not reached; bitstream and log are there
    all the same.
    """
    from ..report.files import check_folder, check_writable, write_json
    from ..report.synth import print_synth
    from ..synth.bitstream import bitstream as make

    chosen = board_named(board)
    fitted = load_config(preset or (None if config else chosen.preset), config, overrides)
    if not 0 <= mhz <= 400:
        raise ConfigError("--mhz", mhz, "0 to 400")
    check_range("--seed", seed, 0, 2**31 - 1)
    if json_file is not None:
        check_writable("--json", json_file)
    check_folder("--build", build)
    with steps() as progress:
        report = make(chosen, fitted, build, clock_hz=round(mhz * 1e6), seed=seed, steps=progress)
    print_synth(report, None if Console().is_terminal else 160)
    typer.echo(f"log: {report['log']}")
    if json_file is not None:
        write_json(json_file, report)
        typer.echo(f"JSON: {json_file}")
    clock = report["clock_hz"] / 1e6
    if not report["timing_met"]:
        typer.echo(f"TIMING NOT MET: {report['place']['fmax_mhz']:.1f} MHz of {clock:g} MHz; try "
                   "another --seed, or --mhz below that", err=True)
        raise typer.Exit(1)
    typer.echo(f"timing met: {report['place']['fmax_mhz']:.1f} MHz, the clock is {clock:g} MHz")
