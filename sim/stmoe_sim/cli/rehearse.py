"""``stmoe rehearse``: a simulated board that host software finds behind a pseudo-terminal."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from stmoe.boards.tops import board as board_named
from stmoe.boards.tops import boards
from stmoe.config import ConfigError

from .options import ConfigFile, Overrides, PresetName, load_config

__all__ = ["EPILOG", "rehearse"]

EPILOG = """\b
Examples:
  stmoe rehearse --config board.toml
  stmoe rehearse --config board.toml --noise 0.0001 --drop 0.0001
  stmoe rehearse --config board.toml --stuck 0x40:3
  stmoe rehearse --board ecpix5-85f
In another terminal:
  stmoe bringup --config board.toml --port build/board.tty --timeout 1 --patience 60 \\
    --test-bytes 1024
A board.toml that takes seconds:
  stmoe config show --set model.layers=2 --set model.experts=4 --set model.d_ff=16 \\
    --set router_layers=0 --set predictor=table --set slots=6 --set max_d_ff=0
"""


def rehearse(
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        board: Annotated[str, typer.Option(
            "--board", metavar="NAME", help=f"One of {', '.join(boards())}.")] = "ulx3s-85f",
        mhz: Annotated[float, typer.Option(
            "--mhz", metavar="N", help="Clock of the board; 0: its own.")] = 0.0,
        noise: Annotated[float, typer.Option(
            "--noise", metavar="P", help="Chance per byte that a bit of it is flipped.")] = 0.0,
        drop: Annotated[float, typer.Option(
            "--drop", metavar="P", help="Chance per byte that it is lost.")] = 0.0,
        stuck: Annotated[str | None, typer.Option(
            "--stuck", metavar="WORD:BIT",
            help="A bit of a 16-bit word of the SDRAM that is always 1.",
        )] = None,
        silent: Annotated[bool, typer.Option(
            "--silent", help="Nothing comes from the board.")] = False,
        seconds: Annotated[float, typer.Option(
            "--seconds", metavar="N", help="Time to live, 0 = until Ctrl-C.")] = 0.0,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where simulators are cached; DIR/board.tty leads to "
                                           "the board.")] = Path("build"),
) -> None:
    """Simulate a whole board, to its pins, for host software that is none the wiser.

    Accelerator, host link and memory's controller are the netlist of a board, run by Verilator,
    some hundred times slower than one, with a model of the SDRAM that holds it to its data sheet;
    while nothing is on its way its time stands still. Exit 1 if a rule of the SDRAM was broken.
    """
    from ..rehearsal.board import build_board
    from ..rehearsal.line import Faults, SimulatedBoard
    from ..report.files import check_folder

    chosen = board_named(board)
    fitted = load_config(preset or (None if config else chosen.preset), config, overrides)
    if mhz:
        if not 1 <= mhz <= 400:
            raise ConfigError("--mhz", mhz, "0, or 1 to 400")
        chosen = dataclasses.replace(chosen, clock_hz=round(mhz * 1e6))
    for option, value in (("--noise", noise), ("--drop", drop)):
        if not 0 <= value <= 1:
            raise ConfigError(option, value, "a chance from 0 to 1")
    fault = None
    if stuck is not None:
        if chosen.sdram is None:
            raise ConfigError("--stuck", stuck, f"left out: {board} has no SDRAM")
        word, _, bit = stuck.partition(":")
        try:
            fault = (int(word, 0), 1 << int(bit, 0), 1 << int(bit, 0))
        except ValueError:
            raise ConfigError("--stuck", stuck, "WORD:BIT, two numbers") from None
        if not 0 <= int(bit, 0) < 16:
            raise ConfigError("--stuck", stuck, "a bit from 0 to 15")
    check_folder("--build", build)
    typer.echo("Building the board, a minute or two unless it is cached.", err=True)
    binary = build_board(chosen, fitted, build)
    with SimulatedBoard(binary, chosen, build / "board.tty",
                        Faults(noise=noise, drop=drop, stuck=fault, silent=silent)) as port:
        typer.echo(f"Port: {port.port}")
        end = time.monotonic() + seconds
        try:
            while (not seconds or time.monotonic() < end) and port.process.poll() is None:
                time.sleep(0.1)
        except KeyboardInterrupt:
            pass
        typer.echo(f"{port.sent:,} bytes from the host, {port.received:,} to it, "
                   f"{port.harmed:,} of them harmed.")
    if port.said:
        typer.echo(port.said, err=True)
        raise typer.Exit(1)
