"""Energy from activity: hardware counters times a table of energies per action; docs/energy.md."""

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from stmoe.config import Geometry

__all__ = ["ACTIONS", "COMPONENTS", "Action", "Counters", "EnergyError", "Entry", "Technology",
           "activity", "energy"]

Counters = Mapping[str, int]


class EnergyError(ValueError):
    """An energy table that cannot be used; the message names file, entry and what is wrong."""


@dataclass(frozen=True)
class Action:
    """What a table must price: ``count`` times of it, in ``component``.

    ``ram`` (bits of an access, bytes of the RAM) is given for accesses to on-chip memory.
    """

    component: str
    count: Callable[[Counters, Geometry], float]
    ram: Callable[[Geometry], tuple[int, float]] | None = None


def _experts(counters: Counters) -> int:
    """Experts computed: routed and shared."""
    return sum(counters[name] for name in ("routed", "shared_hit", "shared_late", "shared_missed"))


def _bank(g: Geometry) -> tuple[int, float]:
    return g.word_bytes * 8, g.bank_words * g.word_bytes


def _beat(g: Geometry) -> tuple[int, float]:
    return g.axi_bytes * 8, g.bank_words * g.axi_bytes  # the macros that the beat goes to


def _side(g: Geometry) -> tuple[int, float]:
    return g.side_bytes * 8, g.bank_param_words * g.side_bytes


def _scale(g: Geometry) -> tuple[int, float]:
    return g.side_bytes * 8, g.bank_scale_words * g.side_bytes


def _map(g: Geometry) -> tuple[int, float]:
    bits = g.slot_bits + 2
    return bits, g.config.model.layers * g.config.blob_ids * bits / 8


def _table(g: Geometry) -> tuple[int, float]:
    model = g.config.model
    bits = model.top_k * (g.expert_bits + 2)
    return bits, max(1, model.layers - 1) * model.experts * bits / 8


def _weights(g: Geometry) -> tuple[int, float]:
    model, linear = g.config.model, g.config.linear
    bits = model.experts * linear.bits
    return bits, model.layers * linear.stride(model) * bits / 8


def _silu(g: Geometry) -> tuple[int, float]:
    return 16, 2048


ACTIONS: dict[str, Action] = {
    "mac": Action("compute", lambda c, g: c["mac_words"] * g.word_weights),
    "requantise": Action("compute", lambda c, g: _experts(c) * (3 * g.ff + g.config.model.d_model)),
    "silu_read": Action("compute", lambda c, g: _experts(c) * g.ff, _silu),
    "silu_multiply": Action("compute", lambda c, g: _experts(c) * g.ff),
    "accumulate": Action("compute", lambda c, g: _experts(c) * g.config.model.d_model),
    "bank_read": Action("buffer", lambda c, g: c["bank_reads"], _bank),
    "bank_write": Action("buffer", lambda c, g: c["bank_writes"], _beat),
    "side_read": Action("buffer", lambda c, g: c["side_reads"], _side),
    "scale_read": Action("buffer", lambda c, g: c["bank_reads"] * bool(g.config.weight_group),
                         _scale),
    "map_read": Action("manager", lambda c, g: c["map_reads"], _map),
    "table_read": Action("prediction", lambda c, g: c["table_reads"], _table),
    "table_write": Action("prediction", lambda c, g: c["table_writes"], _table),
    "score_add": Action("prediction", lambda c, g: c["score_adds"]),
    "weight_read": Action("prediction", lambda c, g: c["weight_reads"], _weights),
    "weight_write": Action("prediction", lambda c, g: c["weight_writes"], _weights),
    "weight_add": Action("prediction", lambda c, g: (c["rows_added"] + c["weight_writes"])
                         * g.config.model.experts),
    "link_beat": Action("memory", lambda c, g: g.axi_bytes * 8 * (
        c["beats_link"] + c["row_beats_read"] + c["row_beats_written"])),
}
"""Every action, with its component and its count from the counters. ``link_beat`` counts bits."""

COMPONENTS = tuple(dict.fromkeys(action.component for action in ACTIONS.values()))


@dataclass(frozen=True)
class Entry:
    """A priced action: picojoules per ``unit``; ``pj`` None = taken from the SRAM points."""

    pj: float | None
    unit: str
    source: str
    derivation: str


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (
            math.isfinite(value) and value >= 0):
        raise EnergyError(f"{where} must be a number of picojoules, 0 or more, not {value!r}")
    return float(value)


def _entry(where: str, data: Any, key: str) -> Entry:
    if not isinstance(data, dict):
        raise EnergyError(f"{where} must be a table")
    want = {key, "unit", "source", "derivation"}
    for name in data:
        if name not in want | {"sram"}:
            raise EnergyError(f"{where}: unknown field {name!r}")
    for name in ("unit", "source", "derivation"):
        if not isinstance(data.get(name), str) or not data[name].strip():
            raise EnergyError(f"{where}.{name} must be given as text")
    if ("sram" in data) == (key in data) or data.get("sram", True) is not True:
        raise EnergyError(f"{where} must have either {key} or sram = true")
    pj = None if "sram" in data else _number(f"{where}.{key}", data[key])
    return Entry(pj, data["unit"], data["source"], data["derivation"])


def _points(where: str, data: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(data, dict) or data.get("access_bits") != 64 or not str(
            data.get("source", "")).strip():
        raise EnergyError(f"{where} must give access_bits = 64, points and a source")
    points = data.get("points")
    if not isinstance(points, list) or len(points) < 2:
        raise EnergyError(f"{where}.points must be at least two of [bytes, pJ]")
    result = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise EnergyError(f"{where}.points must be of [bytes, pJ], not {point!r}")
        result.append((_number(f"{where}.points", point[0]), _number(f"{where}.points", point[1])))
    if any(a[0] >= b[0] for a, b in pairwise(result)) or any(min(pair) <= 0 for pair in result):
        raise EnergyError(f"{where}.points must be positive and rise in bytes")
    return tuple(result)


@dataclass(frozen=True)
class Technology:
    """Energies per action in one technology, and per bit of expert memory."""

    name: str
    title: str
    actions: dict[str, Entry]
    memories: dict[str, Entry]
    sram: tuple[tuple[float, float], ...]

    @classmethod
    def load(cls, *paths: str | Path) -> Self:
        """Read TOML files that together make a technology; later files add, none overrides."""
        name = title = ""
        actions: dict[str, Entry] = {}
        memories: dict[str, Entry] = {}
        sram: tuple[tuple[float, float], ...] = ()
        for path in paths:
            try:
                data = tomllib.loads(Path(path).read_text())
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise EnergyError(f"{path}: {error}") from None
            for key in data:
                if key not in ("name", "title", "action", "memory", "sram"):
                    raise EnergyError(f"{path}: unknown table {key!r}")
            name, title = data.get("name", name), data.get("title", title)
            if "sram" in data:
                sram = _points(f"{path}: sram", data["sram"])
            for kind, found, key in (("action", actions, "pj"), ("memory", memories, "pj_per_bit")):
                for item, value in data.get(kind, {}).items():
                    where = f"{path}: {kind}.{item}"
                    if kind == "action" and item not in ACTIONS:
                        raise EnergyError(f"{where}: no such action; known are "
                                          f"{', '.join(ACTIONS)}")
                    if item in found:
                        raise EnergyError(f"{where} is given twice")
                    found[item] = _entry(where, value, key)
        if not name:
            raise EnergyError(f"{', '.join(map(str, paths))}: the name is missing")
        return cls(name, title or name, actions, memories, sram)

    def sram_pj(self, bits: int, size: float) -> float:
        """One access of ``bits`` to a RAM of ``size`` bytes.

        Wider than 64 bits, the RAM is ``bits / 64`` macros of 64 bits side by side, which share its
        bytes; narrower, the share ``bits / 64`` of one. A macro's energy follows its bytes log-log
        between the points, with the last segment's slope beyond them, and never falls below the
        smallest point's.
        """
        if len(self.sram) < 2:
            raise EnergyError(f"{self.name}: no SRAM points")
        size = size * min(1, 64 / bits)
        pairs = list(pairwise(self.sram))
        (x0, y0), (x1, y1) = next((pair for pair in pairs if size <= pair[1][0]), pairs[-1])
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        return y0 * (max(size, x0) / x0) ** slope * bits / 64

    def price(self, action: str, g: Geometry, memory: str) -> float:
        """Picojoules of one ``action``; :class:`EnergyError` names what has no entry."""
        kind = ACTIONS[action]
        if action == "link_beat":
            part = re.split(r"[-\s]", memory.lower())[0]
            entry = self.memories.get(memory.lower()) or self.memories.get(part)
            if entry is None or entry.pj is None:
                raise EnergyError(f"{self.name}: memory {memory!r} has no entry; known are "
                                  f"{', '.join(self.memories) or 'none'}")
            return entry.pj
        entry = self.actions.get(action)
        if entry is None:
            raise EnergyError(f"{self.name}: action {action!r} has no entry")
        if entry.pj is not None:
            return entry.pj
        if kind.ram is None:
            raise EnergyError(f"{self.name}: action {action!r} is no memory access: give its pj")
        return self.sram_pj(*kind.ram(g))


def activity(counters: Counters, g: Geometry) -> dict[str, float]:
    """How often each action happened; a missing counter is an :class:`EnergyError`."""
    try:
        return {name: action.count(counters, g) for name, action in ACTIONS.items()}
    except KeyError as error:
        raise EnergyError(f"counter {error.args[0]!r} is missing") from None


def energy(counters: Counters, g: Geometry, technology: Technology,
           memory: str) -> dict[str, float]:
    """Picojoules per component of the activity in ``counters``."""
    result = dict.fromkeys(COMPONENTS, 0.0)
    for name, count in activity(counters, g).items():
        result[ACTIONS[name].component] += count * technology.price(name, g, memory)
    return result
