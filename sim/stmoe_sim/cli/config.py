"""``stmoe config``: show, check and list configurations."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stmoe.config import PRESETS, AcceleratorConfig, Geometry

from .options import ConfigFile, Overrides, PresetName, load_config

__all__ = ["app", "summary"]

EPILOG = """\b
Examples:
  stmoe config list
  stmoe config show --preset edge --set slots=24
  stmoe config check --config mine.toml
"""
app = typer.Typer(no_args_is_help=True, help="Show, check and list configurations.", epilog=EPILOG)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def summary(config: AcceleratorConfig) -> dict[str, Any]:
    """Sizes that a configuration comes to."""
    g = Geometry(config)
    widest = Geometry(config, g.max_d_ff)
    return {
        "experts": config.model.layers * config.model.expert_ids, "expert_bytes": g.blob_bytes,
        "expert_beats": g.blob_beats, "memory_bytes": g.memory_bytes,
        "buffer_bytes": g.banks * (g.bank_words * g.word_bytes + g.bank_side_words * g.side_bytes),
        "slots": g.slots, "slots_at_max_d_ff": widest.slots,
        "streams_through_at_max_d_ff": widest.ring,
        "macs": config.pes * config.rows * config.lanes,
        "compute_cycles_per_expert": g.weight_words}


def _record(config: AcceleratorConfig) -> dict[str, Any]:
    return {"hash": f"{config.hash:016x}", "config": config.to_dict(), "derived": summary(config)}


@app.command()
def show(preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
         as_json: Json = False) -> None:
    """Print a configuration as TOML, with the sizes that follow from it as comments."""
    chosen = load_config(preset, config, overrides)
    if as_json:
        typer.echo(json.dumps(_record(chosen), indent=1))
        return
    typer.echo(f"# hash = {chosen.hash:016x}")
    for name, value in summary(chosen).items():
        typer.echo(f"# {name} = {value}")
    typer.echo(chosen.to_toml(), nl=False)


@app.command()
def check(preset: PresetName = None, config: ConfigFile = None, overrides: Overrides = None,
          as_json: Json = False) -> None:
    """Check a configuration; exit 2 with the field, the value and the limit if it is illegal."""
    chosen = load_config(preset, config, overrides)
    if as_json:
        typer.echo(json.dumps({"legal": True, "hash": f"{chosen.hash:016x}"}))
    else:
        typer.echo(f"{chosen.name}: legal, hash {chosen.hash:016x}")


@app.command("list")
def list_presets(as_json: Json = False) -> None:
    """List the presets."""
    if as_json:
        records = {name: _record(config) for name, config in PRESETS.items()}
        typer.echo(json.dumps(records, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("preset", "layers", "experts", "top-k", "d_model", "d_ff", "PEs", "MACs",
                   "slots", "expert", "buffer", "MHz"):
        table.add_column(column, justify="left" if column == "preset" else "right")
    for name, config in PRESETS.items():
        model, sizes = config.model, summary(config)
        table.add_row(name, *map(str, (
            model.layers, model.experts, model.top_k, model.d_model, model.d_ff, config.pes,
            sizes["macs"], sizes["slots"], _bytes(sizes["expert_bytes"]),
            _bytes(sizes["buffer_bytes"]), config.clock_mhz)))
    Console(width=110, highlight=False).print(table)


def _bytes(count: int) -> str:
    units = ["B", "KiB", "MiB"]
    while count >= 10240 and len(units) > 1:
        count = round(count / 1024)
        del units[0]
    return f"{count} {units[0]}"
