"""``stmoe trace``: record, import and inspect routing traces."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stmoe.config import ConfigError
from stmoe.config.error import check_choice
from stmoe_golden.trace import load

from ..report.files import check_distinct, check_writable, write_bytes, write_json
from . import trace_import, trace_record
from .trace_options import progress_bar

__all__ = ["app", "info"]

EPILOG = """\b
Examples:
  stmoe trace info gpt-oss-20b-math.npz
  stmoe trace info english.npz python.npz --json info.json --plot info.png
  stmoe trace info answers.npz --phase prefill
"""
app = typer.Typer(no_args_is_help=True, help="Record, import and inspect routing traces.")
app.command("record", epilog=trace_record.EPILOG)(trace_record.record_trace)
app.command("import", epilog=trace_import.EPILOG)(trace_import.import_traces)


@app.command("info", epilog=EPILOG)
def info(
        files: Annotated[list[Path], typer.Argument(
            metavar="FILE", help="Traces, .npz or route_trace v1 .csv.")],
        phase: Annotated[str | None, typer.Option(
            "--phase", metavar="PHASE",
            help="Tokens that the statistics are of: decode, prefill or all; decode by default, "
                 "all where there is none.")] = None,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write everything as JSON.")] = None,
        plot: Annotated[Path | None, typer.Option(
            "--plot", metavar="FILE", help="Write the plots, .png.")] = None,
) -> None:
    """Print what a trace holds and how predictable it is.

    Shape and domains; reuse of experts at lags of 1 to 32 tokens; how well a layer's experts tell
    the next layer's; popularity of the experts. Terms: docs/traces.md.
    """
    from ..report.traces import PHASES, plot_traces, print_trace, trace_record

    if phase is not None:
        check_choice("--phase", phase, tuple(PHASES))
    if plot is not None and plot.suffix != ".png":
        raise ConfigError("--plot", str(plot), "a file that ends in .png")
    for option, path in (("--json", json_file), ("--plot", plot)):
        if path is not None:
            check_writable(option, path)
    check_distinct(json=json_file, plot=plot)
    console = Console(width=None if Console().is_terminal else 120, soft_wrap=False)
    records = []
    for file in files:
        trace = load(file)
        with progress_bar(f"{trace.name}, layers", trace.layers) as done:
            records.append(trace_record(trace, file, phase, done))
    for index, record in enumerate(records):
        if index:
            console.print()
        print_trace(record, console)
    if json_file:
        write_json(json_file, {"traces": records})
        console.print(f"JSON: {json_file}", highlight=False)
    if plot:
        write_bytes(plot, plot_traces(records))
        console.print(f"Plot: {plot}", highlight=False)
