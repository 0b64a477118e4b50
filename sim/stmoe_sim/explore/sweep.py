"""A sweep file: parameters, their values, and the points that follow."""

import hashlib
import itertools
import json
import math
import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmoe.config import ConfigError
from stmoe.config.error import check_range
from stmoe_golden.model.trace import packaged_trace

from .parameters import DEFAULTS, check, known

__all__ = ["MAX_POINTS", "Point", "Sweep", "load_sweep"]

MAX_POINTS = 100_000
OWN = "tiny-moe"  # the trace that comes with the project


@dataclass(frozen=True)
class Point:
    """A point: ``values`` of parameters by name, and an ``id`` that is the same wherever the same
    trace, values and model are."""

    id: str
    values: dict[str, Any]

    @property
    def machine(self) -> str:
        """What points that differ in their policy alone share."""
        return json.dumps({name: value for name, value in sorted(self.values.items())
                           if not name.startswith("policy.")})


@dataclass(frozen=True)
class Sweep:
    """A sweep. ``varied``: parameters with several values; ``traces``: files by the name in the
    sweep; points that share a machine follow one another."""

    name: str
    points: tuple[Point, ...]
    varied: tuple[str, ...]
    traces: dict[str, Path]


def _flat(table: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters of nested tables; a key with commas names several that go together."""
    for key, value in table.items():
        name = prefix + key
        if isinstance(value, dict) and not ({"from", "to"} & value.keys()):
            yield from _flat(value, where, f"{name}.")
        else:
            for part in name.split(","):
                known(part.strip(), where)
            yield name, value


def _together(name: str, values: Any, where: str) -> list[dict[str, Any]]:
    """The assignments of one line of [grid], or of a list in [random]."""
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}: {name}", values, "a list of values")
    names, found = [part.strip() for part in name.split(",")], []
    for value in values:
        parts = [value] if len(names) == 1 else value
        if not isinstance(parts, list) or len(parts) != len(names):
            raise ConfigError(f"{where}: {name}", value, f"a list of {len(names)} values, one each")
        for one, part in zip(names, parts, strict=True):
            check(one, part, where)
        found.append(dict(zip(names, parts, strict=True)))
    return found


def _drawn(name: str, spread: Any, where: str, rng: random.Random) -> dict[str, Any]:
    """A value of a parameter of [random]: one of a list, or between two numbers."""
    if not isinstance(spread, dict):
        return rng.choice(_together(name, spread, where))
    field = f"{where}: {name}"
    for key in spread:
        if key not in ("from", "to", "scale", "step"):
            raise ConfigError(f"{field}.{key}", spread[key], "left out: from, to, scale, step")
    low, high, scale = spread.get("from"), spread.get("to"), spread.get("scale", "linear")
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
        raise ConfigError(field, spread, "a list, or {from = .., to = ..} of numbers")
    assert low is not None and high is not None
    if scale not in ("linear", "log") or low > high or (scale == "log" and low <= 0):
        raise ConfigError(field, spread, "from at most to, scale linear, or log above 0")
    step = spread.get("step", 1 if isinstance(low, int) and isinstance(high, int) else 0)
    if isinstance(step, bool) or not isinstance(step, int | float) or step < 0:
        raise ConfigError(f"{field}.step", step, "a number, 0 or more")
    found: float = (rng.uniform(low, high) if scale == "linear"
                    else math.exp(rng.uniform(math.log(low), math.log(high))))
    if step:
        found = low + step * round((found - low) / step)
    value = min(max(found, low), high)
    whole = all(isinstance(one, int) for one in (low, high, step)) and step
    value = int(value) if whole else float(f"{value:.6g}")
    check(name, value, where)
    return {name: value}


def _points(data: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    fixed: dict[str, Any] = {}
    for name, value in _flat(data.get("set", {}), f"{where}: [set]"):
        fixed |= _together(name, [value], f"{where}: [set]")[0]
    rows = [_together(name, values, f"{where}: [grid]")
            for name, values in _flat(data.get("grid", {}), f"{where}: [grid]")]
    drawing = dict(data.get("random", {}))
    seed, count = drawing.pop("seed", 1), drawing.pop("count", None)
    spreads = list(_flat(drawing, f"{where}: [random]"))
    if bool(spreads) != (count is not None):
        raise ConfigError(f"{where}: [random] count", count, "given with parameters to draw")
    check_range(f"{where}: [random] seed", seed, 0, 2**31 - 1)
    if count is not None:
        check_range(f"{where}: [random] count", count, 1, MAX_POINTS)
    total = math.prod(map(len, rows)) * (count or 1)
    if total > MAX_POINTS:
        raise ConfigError(where, total, f"of at most {MAX_POINTS} points")
    groups = [list(fixed), *[list(row[0]) for row in rows],
              *[name.split(",") for name, _ in spreads]]
    names = [name.strip() for group in groups for name in group]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: {name}", "", "in one place only")
    for number in range(count or 1):
        rng = random.Random(seed * 1_000_003 + number)  # the first ones whatever the count
        chosen = dict(fixed)
        for name, spread in spreads:
            chosen |= _drawn(name, spread, f"{where}: [random]", rng)
        for parts in itertools.product(*rows):
            yield {key: value for part in (chosen, *parts) for key, value in part.items()}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _traces(names: set[str], home: Path, where: str) -> dict[str, Path]:
    found = {}
    for name in names:
        file = packaged_trace() if name == OWN else home / name
        if not file.is_file():
            raise ConfigError(f"{where}: trace.file", name, f"{OWN} or a file; there is no {file}")
        found[name] = file
    return found


def load_sweep(path: Path, code: str) -> Sweep:
    """The sweep that ``path`` describes; ``code``: digest of the model, a part of each id.

    Tables: [set], one value each; [grid], lists, of which every combination is a point; [random],
    ``count`` and ``seed``, and lists or ranges to draw from: each draw meets the whole grid.
    :class:`ConfigError` names file, parameter, value and limit.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("SWEEP", str(path), f"a readable file ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(str(path), str(error), "well-formed TOML") from None
    for key, value in data.items():
        if key not in ("name", "set", "grid", "random"):
            raise ConfigError(f"{path}: {key}", value, "one of name, [set], [grid], [random]")
        if not isinstance(value, str if key == "name" else dict):
            raise ConfigError(f"{path}: {key}", value, "text" if key == "name" else "a table")
    name = data.get("name", path.stem)
    if not name or "/" in name or name.startswith("."):
        raise ConfigError(f"{path}: name", name, "the name of a folder")
    chosen: list[dict[str, Any]] = [DEFAULTS | values for values in _points(data, str(path))]
    if not all(isinstance(one["trace.file"], str) for one in chosen):
        raise ConfigError(f"{path}: trace.file", chosen[0]["trace.file"], "text")
    traces = _traces({one["trace.file"] for one in chosen}, path.parent, str(path))
    digests = {name: _digest(file) for name, file in traces.items()}
    points: dict[str, Point] = {}
    for values in chosen:
        text = json.dumps([code, values | {"trace.file": digests[values["trace.file"]]}],
                          sort_keys=True)
        point = Point(hashlib.sha256(text.encode()).hexdigest()[:10], values)
        points.setdefault(point.id, point)
    order: dict[str, int] = {}
    for point in points.values():
        order.setdefault(point.machine, len(order))
    ordered = sorted(points.values(), key=lambda one: order[one.machine])
    seen: dict[str, set[str]] = {}
    for point in ordered:
        for key, value in point.values.items():
            seen.setdefault(key, set()).add(json.dumps(value))
    varied = tuple(key for key, values in seen.items()
                   if len(values) > 1 or any(key not in one.values for one in ordered))
    return Sweep(name, tuple(ordered), varied, traces)
