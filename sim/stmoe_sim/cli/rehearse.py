"""``stmoe rehearse``: a simulated board that host software finds behind a pseudo-terminal."""

import time
from pathlib import Path
from typing import Annotated

import typer

from stmoe.config import ConfigError, Geometry
from stmoe.config.error import check_range

from .options import ConfigFile, Overrides, PresetName, load_config

__all__ = ["EPILOG", "rehearse"]

EPILOG = """\b
Examples:
  stmoe rehearse --config board.toml
  stmoe rehearse --config board.toml --noise 0.0001 --drop 0.0001
  stmoe rehearse --config board.toml --stuck 0x40:3
In another terminal:
  stmoe bringup --config board.toml --port build/board.tty --timeout 1 --patience 60 \\
    --test-bytes 1024
A board.toml that takes seconds:
  stmoe config show --set model.layers=2 --set model.experts=4 --set model.d_ff=16 \\
    --set router_layers=0 --set predictor=table --set slots=6 --set max_d_ff=0
"""


def rehearse(
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        memory: Annotated[int, typer.Option(
            "--memory-bytes", metavar="N",
            help="Expert memory of the board, 0 = what the experts need.")] = 0,
        clock: Annotated[int, typer.Option(
            "--clock-mhz", metavar="N", help="Clock of the board.")] = 25,
        baud: Annotated[int, typer.Option(
            "--baud", metavar="N", help="Rate of the line.")] = 3_000_000,
        noise: Annotated[float, typer.Option(
            "--noise", metavar="P", help="Chance per byte that a bit of it is flipped.")] = 0.0,
        drop: Annotated[float, typer.Option(
            "--drop", metavar="P", help="Chance per byte that it is lost.")] = 0.0,
        stuck: Annotated[str | None, typer.Option(
            "--stuck", metavar="BEAT:BIT", help="A bit of a beat of memory that is always 1.",
        )] = None,
        silent: Annotated[bool, typer.Option(
            "--silent", help="Nothing comes from the board.")] = False,
        seconds: Annotated[float, typer.Option(
            "--seconds", metavar="N", help="Time to live, 0 = until Ctrl-C.")] = 0.0,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where simulators are cached; DIR/board.tty leads to "
                                           "the board.")] = Path("build"),
) -> None:
    """Simulate a whole board, to its UART pins, for host software that is none the wiser.

    Accelerator, host link and block RAM are the netlist of a board, run by Verilator, some hundred
    times slower than one; while nothing is on its way its time stands still.
    """
    from ..rehearsal.board import BoardSettings, build_board
    from ..rehearsal.line import Faults, SimulatedBoard
    from ..report.files import check_folder

    chosen = load_config(preset, config, overrides)
    check_range("--clock-mhz", clock, 1, 1000)
    check_range("--memory-bytes", memory, 0, 1 << 26)
    for option, value in (("--noise", noise), ("--drop", drop)):
        if not 0 <= value <= 1:
            raise ConfigError(option, value, "a chance from 0 to 1")
    need = Geometry(chosen).total_bytes
    if memory and memory < need:
        raise ConfigError("--memory-bytes", memory, f"at least {need}, for all experts")
    fault = None
    if stuck is not None:
        beat, _, bit = stuck.partition(":")
        try:
            fault = (int(beat, 0), 1 << int(bit, 0), 1 << int(bit, 0))
        except ValueError:
            raise ConfigError("--stuck", stuck, "BEAT:BIT, two numbers") from None
        if not 0 <= int(bit, 0) < min(64, chosen.axi_data_bits):
            raise ConfigError("--stuck", stuck, "a bit of the lowest 64 of a beat")
    check_folder("--build", build)
    settings = BoardSettings(memory_bytes=memory or need, clock_hz=clock * 1_000_000, baud=baud)
    typer.echo("Building the board, a minute or two unless it is cached.", err=True)
    binary = build_board(chosen, settings, build)
    with SimulatedBoard(binary, settings, build / "board.tty",
                        Faults(noise=noise, drop=drop, stuck=fault, silent=silent)) as board:
        typer.echo(f"Port: {board.port}")
        end = time.monotonic() + seconds
        try:
            while (not seconds or time.monotonic() < end) and board.process.poll() is None:
                time.sleep(0.1)
        except KeyboardInterrupt:
            pass
        typer.echo(f"{board.sent:,} bytes from the host, {board.received:,} to it, "
                   f"{board.harmed:,} of them harmed.")
