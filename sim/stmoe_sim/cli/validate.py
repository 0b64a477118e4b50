"""``stmoe validate``: the timing model against the netlist."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stmoe.config import ConfigError
from stmoe.config.error import check_range

from ..report.files import check_distinct, check_folder, check_writable, write_bytes, write_json
from .progress import bars

__all__ = ["EPILOG", "validate"]

EPILOG = """\b
Examples:
  stmoe validate --points 12
  stmoe validate --points 60 --netlist 6 --netlist 7
  stmoe validate -t math.npz -t science.npz --points 200 --results build/points --plot v.png
"""
MEDIAN, WORST = 0.01, 0.03


def validate(
        trace: Annotated[list[Path] | None, typer.Option(
            "--trace", "-t", metavar="FILE", help="Routing trace, may be repeated if all are of "
                                                  "one shape; else the project's own.")] = None,
        points: Annotated[int, typer.Option(
            "--points", "-n", metavar="N", help="Random points.")] = 24,
        tokens: Annotated[int, typer.Option(
            "--tokens", metavar="N", help="Most tokens of a point; at least 2.")] = 4,
        netlist: Annotated[list[int] | None, typer.Option(
            "--netlist", metavar="N", help="Only points of this netlist, 0 to 7; may be "
                                           "repeated.")] = None,
        seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the points.")] = 1,
        results: Annotated[Path | None, typer.Option(
            "--results", metavar="DIR", help="What the netlist did, point by point; what is "
                                             "there is not simulated again.")] = None,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write the summary as JSON.")] = None,
        plot: Annotated[Path | None, typer.Option(
            "--plot", metavar="FILE", help="Write the plot, .png.")] = None,
        build: Annotated[Path, typer.Option(
            "--build", metavar="DIR", help="Where netlists and images are cached.",
        )] = Path("build"),
) -> None:
    """Hold the timing model against Verilator on random configurations, memories and policies.

    Exit 1 if the error of total cycles is above 1 % in the median or 3 % at worst.
    """
    from stmoe_golden.model.trace import default_trace
    from stmoe_golden.trace import load

    from ..report.validation import plot_validation, print_validation
    from ..validation import NETLISTS, run, summary
    from ..validation import points as draw

    check_range("--points", points, 1, 100_000)
    check_range("--tokens", tokens, 2, 1000)
    check_range("--seed", seed, 0, 2**31 - 1)
    for number in netlist or ():
        check_range("--netlist", number, 0, len(NETLISTS) - 1)
    if plot is not None and plot.suffix != ".png":
        raise ConfigError("--plot", str(plot), "a file that ends in .png")
    check_distinct(json=json_file, plot=plot)
    check_folder("--build", build)
    for option, path in (("--json", json_file), ("--plot", plot)):
        if path is not None:
            check_writable(option, path)
    traces = [load(path) for path in trace] if trace else [default_trace()]
    for one in traces[1:]:
        if (one.layers, one.num_experts, one.top_k) != (
                traces[0].layers, traces[0].num_experts, traces[0].top_k):
            raise ConfigError("--trace", one.name, f"of the shape of {traces[0].name}")
    kept = results or build / "validation"
    check_folder("--results", kept)
    with bars() as shown:
        task = shown.add_task("points", total=None)
        wanted = [point for point in draw(points, seed, len(traces), tokens)
                  if not netlist or point.netlist in netlist]
        if not wanted:
            raise ConfigError("--netlist", netlist, f"of one of the {points} points")
        found = run(wanted, traces, build, kept,
                    lambda done, of: shown.update(task, completed=done, total=of))
    about = summary(found)
    print_validation(about, found, Console(width=None if Console().is_terminal else 120))
    if json_file:
        write_json(json_file, about | {"results": found})
    if plot:
        write_bytes(plot, plot_validation(found))
    if about["median"] > MEDIAN or about["worst"] > WORST:
        raise typer.Exit(1)
