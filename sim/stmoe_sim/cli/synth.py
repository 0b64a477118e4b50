"""``stmoe synth``: from a configuration to gates, a bitstream, an area, a frequency."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stmoe.config import ConfigError
from stmoe.config.error import check_choice, check_range

from .options import ConfigFile, Overrides, PresetName, load_config
from .progress import steps

__all__ = ["EPILOG", "synth"]

EPILOG = """\b
Examples:
  stmoe synth --preset edge --no-place
  stmoe synth --preset edge --part LFE5U-85F --mhz 100 --json edge.json
  stmoe synth --preset edge --block dma --place
  stmoe synth --preset edge --estimate
  stmoe synth --preset edge --no-place --compare docs/resources.json
  stmoe synth --preset tiny --target generic
  stmoe synth --preset tiny --target asic --liberty cells.lib --nm 130
  stmoe synth --preset tiny --target asic --estimate
docs/synthesis.md says what is counted, and how.
"""


def synth(
        preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
        target: Annotated[str, typer.Option(
            "--target", "-t", metavar="NAME",
            help="ecp5, ice40, gowin, nexus; generic: simple gates; asic: a liberty library.",
        )] = "ecp5",
        part: Annotated[str | None, typer.Option(
            "--part", metavar="NAME", help="Part of the target; its largest by default.")] = None,
        place: Annotated[bool | None, typer.Option(
            "--place/--no-place", help="ecp5: go on to place and route, and a bitstream; by "
            "default unless blocks are chosen. One block can be placed by itself.")] = None,
        estimate: Annotated[bool, typer.Option(
            "--estimate", help="ecp5, asic: the slowest paths, with a guess at routing, of the "
            "whole or of one block; asic: by OpenSTA if there is one.")] = False,
        mhz: Annotated[int, typer.Option(
            "--mhz", metavar="N", help="Clock to place for, or of OpenSTA's report; 0: the "
            "configuration's.")] = 0,
        seed: Annotated[int, typer.Option(
            "--seed", metavar="N", help="Of the placement.")] = 1,
        liberty: Annotated[Path | None, typer.Option(
            "--liberty", metavar="FILE",
            help="asic: the library; by default OSU 180 nm of Debian's qflow-tech-osu018.")] = None,
        nm: Annotated[int | None, typer.Option(
            "--nm", metavar="N", help="asic: feature size that SRAMs and wires scale to; by "
            "default 180.")] = None,
        block: Annotated[list[str] | None, typer.Option(
            "--block", metavar="NAME",
            help="Synthesise this block of the table alone; may be repeated.")] = None,
        compare: Annotated[Path | None, typer.Option(
            "--compare", metavar="FILE",
            help="FPGAs: exit 1 if blocks differ from this table by more than 2 %, or in DSPs or "
                 "block RAMs at all; docs/resources.json is of the presets.")] = None,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write the report as JSON.")] = None,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where netlists and results are cached.",
        )] = Path("build"),
) -> None:
    """Synthesise a configuration and report what it takes, by block and in total.

    Every block is kept as it is done: a run that was ended goes on where it was. A design that is
    too large for the part ends with exit 1, before place and route.
    """
    from ..report.files import check_folder, check_writable, write_json
    from ..report.synth import print_synth
    from ..synth import asic, flow, targets
    from ..synth.compare import differences, kept_table

    chosen = load_config(preset, config, overrides)
    check_choice("--target", target, flow.TARGETS)
    check_range("--mhz", mhz, 0, 4000)
    check_range("--seed", seed, 0, 2**31 - 1)
    check_range("--nm", nm or 180, 2, 1000)
    for option, given, of in (("--part", part, targets.FAMILIES), ("--liberty", liberty, ("asic",)),
                              ("--nm", nm, ("asic",)),
                              ("--compare", compare, targets.FAMILIES)):
        if given is not None and target not in of:
            raise ConfigError(option, str(given), f"left out with --target {target}")
    if liberty is not None and not liberty.is_file():
        raise ConfigError("--liberty", str(liberty), "a readable file")
    if place and target != "ecp5":
        raise ConfigError("--place", target, "left out: only ecp5 is placed")
    if estimate and target not in ("ecp5", "asic"):
        raise ConfigError("--estimate", target, "left out: only paths of ecp5 and asic are known")
    if (place or estimate) and block and len(block) > 1:
        raise ConfigError("--place" if place else "--estimate", ", ".join(block),
                          "given with one --block at most")
    if place is None:
        place = target == "ecp5" and not block and not estimate
    if mhz and not place and not (estimate and target == "asic"):
        raise ConfigError("--mhz", mhz, "left out: nothing is placed")
    kept = kept_table(compare, target, chosen.name) if compare else {}
    if json_file is not None:
        check_writable("--json", json_file)
    check_folder("--build", build)
    fitted = targets.part(part, target) if target in targets.FAMILIES else None
    if target == "asic":
        liberty = liberty or asic.default_liberty(build)
    with steps() as progress:
        report = flow.synth(
            chosen, target, build, part=fitted, place=place, estimated=estimate, mhz=mhz,
            seed=seed, liberty=liberty, nm=nm or asic.DEFAULT_NM, chosen=block or (),
            steps=progress)
    print_synth(report, None if Console().is_terminal else 160)
    if json_file is not None:
        write_json(json_file, report)
        typer.echo(f"JSON: {json_file}")
    if compare:
        changed = differences(report["blocks"], kept)
        for line in changed:
            typer.echo(line)
        typer.echo(f"{len(changed)} differences from {compare}")
        if changed:
            raise typer.Exit(1)
