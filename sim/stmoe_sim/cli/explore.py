"""``stmoe explore``: a sweep over machines, memories, traces and policies, and its pictures."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stmoe.config import ConfigError
from stmoe.config.error import check_range

from ..report.files import check_distinct, check_folder, check_writable, write_json, write_text
from .progress import bars

__all__ = ["EPILOG", "explore"]

EPILOG = """\b
Examples:
  stmoe explore sweep.toml
  stmoe explore sweep.toml --pick best:speedup --where "sram_mm2<=20" --toml best.toml
  stmoe explore sweep.toml --scheduler tcp://10.0.0.1:8786 --json sweep.json
  stmoe explore sweep.toml --parameters
A sweep file has [set], [grid] and [random]: docs/explore.md.
"""
NEEDED = "pyarrow", "plotly"


def explore(
        sweep: Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep, in TOML.")],
        output: Annotated[Path | None, typer.Option(
            "--output", "-o", metavar="DIR",
            help="Folder of the results; build/explore/NAME by default. A sweep that was stopped "
                 "goes on from what is there.")] = None,
        jobs: Annotated[int | None, typer.Option(
            "--jobs", "-j", metavar="N", help="Processes; by default one per core.")] = None,
        scheduler: Annotated[str | None, typer.Option(
            "--scheduler", metavar="ADDRESS",
            help="Dask scheduler whose workers evaluate, as tcp://10.0.0.1:8786.")] = None,
        where: Annotated[list[str] | None, typer.Option(
            "--where", "-w", metavar="COND",
            help="Only points of the table and for --pick that meet it, as \"sram_mm2<=20\" or "
                 "policy.name=ours; may be repeated.")] = None,
        pick: Annotated[str | None, typer.Option(
            "--pick", metavar="WHICH",
            help="Write the configuration of a point: its id, or best:COLUMN, as best:speedup.",
        )] = None,
        toml: Annotated[Path | None, typer.Option(
            "--toml", metavar="FILE", help="Where --pick writes; DIR/ID.toml by default.")] = None,
        timeline: Annotated[Path | None, typer.Option(
            "--timeline", metavar="FILE",
            help="With --pick: a token of that point for ui.perfetto.dev.")] = None,
        technology: Annotated[str, typer.Option(
            "--technology", metavar="NAME", help="Energy table: 45nm, 7nm, osu018 or a .toml file.",
        )] = "7nm",
        html: Annotated[Path | None, typer.Option(
            "--html", metavar="FILE", help="The page; DIR/report.html by default.")] = None,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write everything as JSON.")] = None,
        parameters: Annotated[bool, typer.Option(
            "--parameters", help="List what can be varied, and end.")] = False,
) -> None:
    """Evaluate every point of a sweep on the timing model, in parallel; table, page, Parquet.

    Points that cannot be are listed with the reason. Results are kept as they come: a sweep that
    was stopped goes on, one that is done is only read. Definitions: docs/explore.md.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ConfigError("stmoe explore", name, "there: pip install 'stmoe[explore]'")
    from ..energy import technology as energy_table
    from ..explore.choose import check_pick, conditions, configuration
    from ..explore.choose import pick as choose
    from ..explore.columns import schema
    from ..explore.evaluate import code_digest
    from ..explore.parameters import PARAMETERS
    from ..explore.run import bench, run
    from ..explore.sweep import load_sweep
    from ..report.explore import print_sweep, render_sweep, summary
    from ..report.token import chosen_token

    if parameters:
        for title, found in PARAMETERS.values():
            typer.echo(f"{title}:\n  {', '.join(found)}")
        return
    prices = energy_table(technology)
    check_range("--jobs", jobs := os.cpu_count() or 1 if jobs is None else jobs, 1, 256)
    for option, given in (("--toml", toml), ("--timeline", timeline)):
        if given is not None and pick is None:
            raise ConfigError(option, str(given), "given with --pick")
    chosen = load_sweep(sweep, f"{code_digest()}-{prices.name}")
    folder = output or Path("build") / "explore" / chosen.name
    html = html or folder / "report.html"
    check_folder("--output", folder)
    check_distinct(json=json_file, html=html, toml=toml, timeline=timeline)
    for option, path in (("--json", json_file), ("--html", html), ("--toml", toml),
                         ("--timeline", timeline)):
        if path is not None:
            check_writable(option, path)
    if pick is not None:
        check_pick(pick, {point.id for point in chosen.points})
    met = conditions(where or [], schema(chosen.points).names)
    console = Console(width=None if Console().is_terminal else 140, soft_wrap=False)
    kept = 0
    try:
        with bars() as shown:
            task = shown.add_task("points", total=len(chosen.points))

            def done(count: int, of: int, failed: int) -> None:
                nonlocal kept
                kept = count
                shown.update(task, completed=count, total=of, description="points" + (
                    f", {failed} without figures" if failed else ""))
            lines = run(chosen, folder, prices, jobs=jobs, scheduler=scheduler, done=done)
    except KeyboardInterrupt:
        typer.echo(f"stmoe: stopped: {kept} of {len(chosen.points)} points are kept in {folder}; "
                   "the same command goes on", err=True)
        raise typer.Exit(130) from None
    here = bench(chosen, prices)
    about: dict[str, Any] = summary(chosen, lines)
    print_sweep(about, [line for line in lines if met(line)], console)
    write_text(html, render_sweep(about, lines, chosen, here))
    console.print(f"Results: {folder / 'results.parquet'}\nPage: {html}", highlight=False)
    if pick is not None:
        line = choose(pick, [line for line in lines if met(line)])
        point = next(point for point in chosen.points if point.id == line["id"])
        config, text = configuration(point, here, line["speedup"])
        toml = toml or folder / f"{point.id}.toml"
        write_text(toml, text)
        console.print(f"Point {point.id}, hash {config.hash:016x}: {toml}", highlight=False)
        if timeline is not None:
            write_json(timeline, chosen_token(point, here).chrome)
            console.print(f"Timeline: {timeline}", highlight=False)
    if json_file:
        write_json(json_file, about | {"points": lines})
        console.print(f"JSON: {json_file}", highlight=False)
