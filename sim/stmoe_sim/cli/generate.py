"""``stmoe generate``: write the netlist and what accompanies it."""

from pathlib import Path
from typing import Annotated

import typer

from stmoe.config import ConfigError

from ..report.files import check_folder
from .options import ConfigFile, Overrides, PresetName, load_config

__all__ = ["EPILOG", "generate"]

EPILOG = """\b
Examples:
  stmoe generate --preset tiny -o build/tiny
  stmoe generate --config mine.toml --set slots=24 -o build/mine --lint
"""


def generate(
        output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR",
                                             help="Folder to write into; made if missing.")],
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        lint: Annotated[bool, typer.Option(
            "--lint", help="Run Verilator's lint over the result; exit 1 unless clean.")] = False,
) -> None:
    """Write Verilog, RTLIL, sidecar, C header, register pages, core files and constraints."""
    chosen = load_config(preset, config, overrides)
    check_folder("--output", output)
    from stmoe import emit  # a heavy import, after the cheap checks

    try:
        sidecar = emit.generate(chosen, output)
    except OSError as error:
        raise ConfigError("--output", str(output),
                          f"a folder to write into ({error.strerror})") from None
    typer.echo(f"{chosen.name}, hash {sidecar.hash}, written to {output}:")
    for name in [*sidecar.files.values(), "stmoe.json"]:
        typer.echo(f"  {name}")
    if lint:
        emit.lint((output / sidecar.files["verilog"]).read_text())
        typer.echo("lint: clean")
