"""Choosing among points: conditions, the best, the Pareto front, a configuration to build."""

import math
import operator
import re
from collections.abc import Callable, Container, Sequence
from typing import Any

from stmoe.config import AcceleratorConfig, ConfigError

from .columns import COLUMNS
from .evaluate import Bench
from .sweep import Point

__all__ = ["COST", "buildable", "check_pick", "conditions", "configuration", "front", "pick"]

Line = dict[str, Any]
COST = "sram_mm2", "energy_mj"
RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq,
    "<": operator.lt, ">": operator.gt}
REGISTERS = {"on-demand": "on-demand", "lru": "lru", "ewma": "ewma", "linear": "linear",
             "ours": "st-moe"}
"""Rivals that the hardware has, as policies of ``stmoe simulate``."""


def conditions(texts: Sequence[str], names: Sequence[str]) -> Callable[[Line], bool]:
    """Whether a line meets all of ``texts``, as ``sram_mm2<=20`` or ``policy.name=ours``."""
    tests = []
    for text in texts:
        match = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*", text)
        if not match or match[1] not in names:
            raise ConfigError("--where", text, "COLUMN<=VALUE, with <=, >=, <, >, =, != and one of "
                                               + ", ".join(names))
        value: Any = match[3]
        try:
            value = {"true": True, "false": False}[value] if value in ("true", "false") else float(
                value)
        except ValueError:
            if match[2] not in ("=", "!="):
                raise ConfigError("--where", text, "a number behind that sign") from None
        tests.append((match[1], RELATIONS[match[2]], value))

    def met(line: Line) -> bool:
        return all(line.get(name) is not None and (
            isinstance(line[name], str) == isinstance(value, str)) and compare(line[name], value)
            for name, compare, value in tests)
    return met


def buildable(line: Line) -> bool:
    """Whether the point has figures, and is nothing that knows the future."""
    return line["error"] is None and not line["oracle"]


def _key(line: Line, name: str) -> float:
    """A figure, less is better; what is not known is worst."""
    value = line.get(name)
    if value is None:
        return math.inf
    return -float(value) if COLUMNS[name].better == "more" else float(value)


def front(lines: Sequence[Line], names: Sequence[str] = ("speedup", *COST)) -> list[str]:
    """Ids of buildable points than which none is better in one figure and as good in the others,
    trace by trace."""
    found = []
    groups: dict[Any, list[tuple[tuple[float, ...], str]]] = {}
    for line in lines:
        if buildable(line):
            groups.setdefault(line["trace.file"], []).append(
                (tuple(_key(line, name) for name in names), line["id"]))
    for group in groups.values():
        best: list[tuple[tuple[float, ...], str]] = []
        for keys, name in sorted(group):
            if not any(other != keys and all(map(operator.le, other, keys)) for other, _ in best):
                best.append((keys, name))
        found += [name for _, name in best]
    return found


def check_pick(what: str, ids: Container[str]) -> None:
    """:class:`ConfigError` unless ``what`` is one of ``ids``, or ``best:COLUMN``."""
    ranked = [name for name, column in COLUMNS.items() if column.better]
    if what not in ids and what not in [f"best:{name}" for name in ranked]:
        raise ConfigError("--pick", what, "the id of a point of the sweep, or best: and one of "
                                          + ", ".join(ranked))


def pick(what: str, lines: Sequence[Line]) -> Line:
    """The line called ``what``: an id, or ``best:COLUMN``; oracles are picked by id alone."""
    _, best, name = what.partition("best:")
    possible = [line for line in lines if (buildable(line) and line.get(name) is not None
                                           if best else line["id"] == what)]
    if not possible:
        raise ConfigError("--pick", what, "a point with figures that meets every --where")
    if not best:
        if possible[0]["error"] is not None:
            raise ConfigError("--pick", what, f"a point with figures ({possible[0]['error']})")
        return possible[0]
    return min(possible, key=lambda line: (_key(line, name), _key(line, "area_mm2")))


def configuration(point: Point, bench: Bench, speedup: float) -> tuple[AcceleratorConfig, str]:
    """The point's configuration, and its TOML with what a register or the host decides above."""
    case = bench.case(point.values)
    scene, window = case.scene, case.window
    config = scene.config.replace(name=f"point-{point.id}")
    policy = point.values["policy.name"]
    exact = REGISTERS.get(policy) if not any(
        name.startswith("policy.") and name != "policy.name" for name in point.values) else None
    lines = [f"Point {point.id}, {speedup:.3f} x on-demand on {window.trace.name}.",
             *(f"{name} = {value!r}" for name, value in sorted(point.values.items()))]
    if exact and scene.regime.part is not None:
        lines += ["Replay on the netlist, FILE being this one and TRACE the trace:",
                  f"stmoe simulate --config FILE --trace TRACE --policy on-demand,{exact}"
                  f" --memory {scene.regime.part} --bandwidth-scale"
                  f" {scene.regime.bandwidth_scale:g} --attention-cycles {scene.attention}"
                  f" --tokens {window.tokens} --warmup {window.warmup}"
                  f" --profile-tokens {window.profile[1]}"]
    if scene.regime.ports > 1:
        lines.append(f"The expert memory has {scene.regime.ports} ports of this width side by "
                     "side; the generator makes one.")
    if not exact:
        lines.append("The policy is none that registers set: the netlist runs those of "
                     "'stmoe simulate --help'.")
    return config, "".join(f"# {line}\n" for line in lines) + config.to_toml()
