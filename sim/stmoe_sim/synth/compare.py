"""Resources held against a table that was kept."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stmoe.config import ConfigError

__all__ = ["TOLERANCE", "differences", "kept_table", "table_of"]

TOLERANCE = 0.02
INFERRED = {"dsp": "multipliers are made of look-up tables",
            "bram": "memories are made of look-up tables or flip-flops"}
EXACT = ("dsp", "bram")


def table_of(report: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Per block what one instance takes, as it is kept."""
    return {row["block"]: {name: row[name] for name in ("count", "lut", "ff", "dsp", "bram")}
            for row in report["blocks"]}


def kept_table(path: Path, target: str, config: str) -> dict[str, dict[str, int]]:
    """The table of a configuration on a target in the file ``path``: target, preset, block."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        raise ConfigError("--compare", str(path), "a readable file of JSON") from None
    if not isinstance(kept, dict) or config not in kept.get(target, {}):
        raise ConfigError("--compare", str(path), f"a table with {target}, {config}")
    return kept[target][config]


def differences(rows: Sequence[Mapping[str, Any]],
                kept: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Where blocks differ from the table: multipliers and block RAMs at all, else beyond 2 %."""
    found = []
    for row in rows:
        name = row["block"]
        if name not in kept:
            found.append(f"{name}: not in the table")
            continue
        for key, before in kept[name].items():
            now = row[key]
            if key in EXACT and now < before:
                found.append(f"{name}: {before} {key} were inferred, now {now}: {INFERRED[key]}")
            elif key in (*EXACT, "count") and now != before:
                found.append(f"{name}: {before} {key} before, now {now}")
            elif abs(now - before) > TOLERANCE * before:
                found.append(f"{name}: {before} {key} before, now {now}, more than 2 % off")
    return found
