"""``stmoe predict``: predictors of the next layer's experts, side by side on recorded routing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from stmoe.config import ConfigError
from stmoe.config.error import check_range

from ..report.files import check_distinct, check_writable, write_bytes, write_json
from .options import MAX_PASSES, Passes

__all__ = ["EPILOG", "predict"]

EPILOG = """\b
Examples:
  stmoe predict
  stmoe predict gpt-oss-20b-math.npz --predictor table,linear --budget 1,1.5,2 --profile-tokens 3000
  stmoe predict both.npz --predictor linear,combined,./mine.py --json out.json --plot out.png
  stmoe predict math.npz --predictor linear,linear:bits=8:fraction=5,linear:features=1.0
"""
DEFAULT_BUDGETS = "1,1.25,1.5,2"


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that disappears; call with what is done, and all there is."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
               TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True,
                  disable=not console.is_terminal) as bars:
        task = bars.add_task(f"{name}, predicting", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _budgets(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError("--budget", text, "numbers separated by commas, as 1,1.5,2") from None
    if any(not 0 < value < 1e6 for value in values) or len(set(values)) != len(values):
        raise ConfigError("--budget", text, "distinct numbers above 0, in multiples of top-k")
    return sorted(values)


def _predictors(texts: list[str] | None) -> list[str] | None:
    if not texts:
        return None
    names = [name.strip() for text in texts for name in text.split(",")]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not all(names):
        raise ConfigError("--predictor", ",".join(texts), "distinct names separated by commas")
    return names


def predict(
        files: Annotated[list[Path] | None, typer.Argument(
            metavar="[TRACE]...", help="Traces, .npz or route_trace v1 .csv; the packaged one of "
                                       "the project's own model by default.")] = None,
        predictor: Annotated[list[str] | None, typer.Option(
            "--predictor", "-p", metavar="A,B",
            help="Predictors, with options as linear:bits=8, or a file that defines one; all that "
                 "the trace allows by default. 'help' lists them.")] = None,
        budget: Annotated[str, typer.Option(
            "--budget", "-b", metavar="N,N",
            help="Set sizes to measure at, in multiples of top-k.")] = DEFAULT_BUDGETS,
        profile_tokens: Annotated[int | None, typer.Option(
            "--profile-tokens", metavar="N",
            help="Tokens that predictors learn from before any counts; by default the first fifth "
                 "of the sequences, of a single sequence its prompt.")] = None,
        passes: Passes = 1,
        json_file: Annotated[Path | None, typer.Option(
            "--json", metavar="FILE", help="Write everything as JSON.")] = None,
        plot: Annotated[Path | None, typer.Option(
            "--plot", metavar="FILE", help="Write the plots, .png.")] = None,
) -> None:
    """Compare predictors of the next layer's experts on recorded routing.

    Recall, precision and set size at each budget and at the predictor's own threshold, per layer
    and per domain, and recall over time. Decode tokens but the first of a sequence; layer 0 apart.
    Terms: docs/predictors.md.
    """
    from stmoe_golden.predict.registry import names, predictor_class
    from stmoe_golden.trace import load

    from ..prediction import compare
    from ..report.predict import plot_predictors, print_predictors

    console = Console(width=None if Console().is_terminal else 120, soft_wrap=False)
    chosen, budgets = _predictors(predictor), _budgets(budget)
    check_range("--profile-passes", passes, 1, MAX_PASSES)
    if chosen == ["help"]:
        for name in names():
            console.print(f"{name:18} {predictor_class(name).description}", highlight=False)
        return
    if plot is not None and plot.suffix != ".png":
        raise ConfigError("--plot", str(plot), "a file that ends in .png")
    check_distinct(json=json_file, plot=plot)
    for option, path in (("--json", json_file), ("--plot", plot)):
        if path is not None:
            check_writable(option, path)
    for text in chosen or []:
        predictor_class(text)
    if files:
        traces = [(file, load(file)) for file in files]
    else:
        from stmoe_golden.model.trace import default_trace, packaged_trace

        traces = [(Path(packaged_trace().name), default_trace())]
    pairs = []
    for file, trace in traces:
        with _progress(trace.name) as done:
            pairs.append(compare(trace, file, chosen, budgets, profile_tokens, done, passes))
    print_predictors(pairs, console)
    if json_file:
        write_json(json_file, {"budgets": budgets, "traces": [about for about, _ in pairs],
                               "predictors": [one for _, entries in pairs for one in entries]})
        console.print(f"JSON: {json_file}", highlight=False)
    if plot:
        write_bytes(plot, plot_predictors(pairs))
        console.print(f"Plot: {plot}", highlight=False)
