"""Wiring of the verbs into one application."""

import importlib.metadata
from typing import Annotated

import typer

from . import (
    bitstream,
    bringup,
    chat,
    compare,
    config,
    explore,
    faults,
    generate,
    predict,
    rehearse,
    simulate,
    synth,
    trace,
    validate,
)

__all__ = ["app"]

app = typer.Typer(
    name="stmoe", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
    help="Generator of Mixture-of-Experts accelerators with spatio-temporal expert prefetching.")
app.add_typer(config.app, name="config")
app.add_typer(trace.app, name="trace")
app.command("generate", epilog=generate.EPILOG)(generate.generate)
app.command("bitstream", epilog=bitstream.EPILOG)(bitstream.bitstream)
app.command("bringup", epilog=bringup.EPILOG)(bringup.bringup)
app.command("chat", epilog=chat.EPILOG)(chat.chat)
app.command("faults", epilog=faults.EPILOG)(faults.faults)
app.command("predict", epilog=predict.EPILOG)(predict.predict)
app.command("rehearse", epilog=rehearse.EPILOG)(rehearse.rehearse)
app.command("simulate", epilog=simulate.EPILOG)(simulate.simulate)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("explore", epilog=explore.EPILOG)(explore.explore)
app.command("validate", epilog=validate.EPILOG)(validate.validate)
app.command("synth", epilog=synth.EPILOG)(synth.synth)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"stmoe {importlib.metadata.version('stmoe')}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option(
        "--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


@app.command("version")
def version() -> None:
    """Print the version."""
    _version(True)
