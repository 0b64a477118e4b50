"""Columns of a sweep's results: names, labels, units, and which way is better."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from .sweep import Point

__all__ = ["COLUMNS", "Column", "row", "schema", "values"]


class Column(NamedTuple):
    """``kind``: of :data:`KINDS`. ``better``: "more", "less", or "" where neither is."""

    label: str
    kind: str = "float"
    better: str = ""


KINDS = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "text": pa.string(),
         "list": pa.list_(pa.float64())}
COLUMNS = {
    "id": Column("point", "text"), "error": Column("why it has no figures", "text"),
    "seconds": Column("time to evaluate, s"),
    "speedup": Column("speed-up over on-demand on the same machine", better="more"),
    "milliseconds": Column("ms per token", better="less"),
    "tokens_per_second": Column("tokens per second", better="more"),
    "cycles_per_token": Column("cycles per token", better="less"),
    "energy_mj": Column("energy per token, mJ", better="less"),
    "edp_js": Column("energy x time per token, Js", better="less"),
    "mb_per_token": Column("MB read per token", better="less"),
    "traffic": Column("bytes read / bytes of on-demand loading", better="less"),
    "coverage": Column("coverage", better="more"),
    "recall": Column("recall of the prediction", better="more"),
    "precision": Column("precision of the prediction", better="more"),
    "sram_mm2": Column("SRAM, mm2 at 45 nm", better="less"),
    "area_mm2": Column("area, mm2 at 45 nm", better="less"),
    "logic_mm2": Column("logic, mm2 at 45 nm", better="less"),
    "sram_bits": Column("SRAM, bits", "int", "less"),
    **{f"sram_bits_{part}": Column(f"SRAM of {what}, bits", "int", "less") for part, what in (
        ("buffer", "the expert buffer"), ("predictor", "the prediction units"),
        ("elements", "the PEs"), ("router", "the router"))},
    **{f"logic_mm2_{part}": Column(f"logic of {what}, mm2", better="less") for part, what in (
        ("elements", "the PEs"), ("network", "the buffer's network"), ("rest", "the rest"))},
    "slots": Column("slots", "int"), "expert_bytes": Column("bytes of an expert", "int"),
    "buffer_share": Column("share of all experts that has a slot"),
    "link_cycles": Column("cycles of the link, of a layer loaded whole"),
    "compute_cycles": Column("cycles of the PEs, of a layer", "int"),
    "attention_cycles": Column("cycles of attention, of a layer", "int"),
    "link_ratio": Column("link time / (compute + attention time)"),
    "oracle": Column("knows what is to come", "bool"),
    "changes_output": Column("changes the model's output", "bool"),
    "prefetches": Column("fetches ahead", "bool"),
    **{f"cause_{cause}": Column(f"{cause.replace('_', ' ')}, cycles per token")
       for cause in ("attention", "receive", "merge", "compute", "stall_demand", "stall_late",
                     "verify")},
    "coverage_by_layer": Column("coverage by layer", "list"),
    "recall_by_token": Column("recall by token", "list")}
RANK = {"bool": 0, "int": 1, "float": 2, "text": 3}


def _kind(value: Any) -> str:
    for kind, of in (("bool", bool), ("int", int), ("float", float)):
        if isinstance(value, of):
            return kind
    return "text"  # other values as JSON


def schema(points: Iterable[Point]) -> pa.Schema:
    """A column for each parameter, of the kind that holds all its values, then :data:`COLUMNS`."""
    kinds: dict[str, str] = {}
    for point in points:
        for name, value in point.values.items():
            kind, before = _kind(value), kinds.get(name)
            if before not in (None, kind):
                kind = "float" if {kind, before} == {"int", "float"} else "text"
            kinds[name] = kind
    return pa.schema([pa.field("id", pa.string()),
                      *(pa.field(name, KINDS[kind]) for name, kind in sorted(kinds.items())),
                      *(pa.field(name, KINDS[column.kind]) for name, column in COLUMNS.items()
                        if name != "id")])


def row(point: Point, record: dict[str, Any], of: pa.Schema) -> dict[str, Any]:
    """A line of the table."""
    found = {name: record.get(name) for name in of.names}
    for name, value in point.values.items():
        text = pa.types.is_string(of.field(name).type) and not isinstance(value, str)
        found[name] = json.dumps(value) if text else value
    return found


def values(names: Iterable[str], line: dict[str, Any]) -> str:
    """The parameters ``names`` of a line, as text."""
    return ", ".join(f"{name}={line[name]}" for name in names if line.get(name) is not None)
