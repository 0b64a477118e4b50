"""What a sweep may vary: names, what they are of, and which values are known beforehand."""

import dataclasses
from collections.abc import Callable
from typing import Any

from stmoe.config import AcceleratorConfig, ConfigError
from stmoe.config.linear import LinearOptions
from stmoe.config.model import ModelShape
from stmoe_golden.predict.registry import names as predictors
from stmoe_golden.timing.model import RETENTIONS, MemoryTiming

from ..memory import memories
from ..regimes import LINKS, REGIMES, Regime
from ..rivals import RIVALS

__all__ = ["DEFAULTS", "PARAMETERS", "check", "known"]

DEFAULTS: dict[str, Any] = {"trace.file": "tiny-moe", "trace.tokens": 8, "trace.warmup": 8,
            "regime.name": "ecp5", "policy.name": "ours"}
OF_THE_TRACE = ("layers", "experts", "top_k")


def _fields(kind: Any, prefix: str, *without: str) -> list[str]:
    return [prefix + field.name for field in dataclasses.fields(kind) if field.name not in without]


PARAMETERS: dict[str, tuple[str, list[str]]] = {
    "trace": ("the routing that is replayed", [
        f"trace.{name}" for name in ("file", "tokens", "warmup", "profile_tokens", "skip")]),
    "regime": ("machine and memory to begin with, and its fields (docs/timing-model.md)",
               _fields(Regime, "regime.", "summary", "changes")),
    "config": ("fields of the configuration, as of 'stmoe config show'",
               _fields(AcceleratorConfig, "config.", "model", "linear", "name")
               + _fields(ModelShape, "config.model.", *OF_THE_TRACE, "name")
               + _fields(LinearOptions, "config.linear.")),
    "memory": ("timing of the expert memory, in picoseconds, after the regime's part or link",
               _fields(MemoryTiming, "memory.")),
    "policy": ("a rival of 'stmoe compare', and what of it is changed", [
        f"policy.{name}" for name in ("name", "predictor", "threshold", "limit", "retain",
                                      "retention", "worth", "worth_floor", "chase")])}
"""Parameters by group, each with what the group is."""

CHOICES: dict[str, Callable[[], list[str]]] = {
    "regime.name": lambda: list(REGIMES),
    "regime.part": lambda: ["none", *memories(), *LINKS],
    "policy.name": lambda: list(RIVALS),
    "policy.predictor": lambda: ["none", *predictors()],
    "policy.retention": lambda: list(RETENTIONS)}
NUMBERS = {"trace.tokens": 1, "trace.warmup": 0, "trace.profile_tokens": 0, "trace.skip": 0,
           "policy.limit": 0, "policy.threshold": -1 << 29, "policy.worth_floor": 0}
SWITCHES = ("policy.retain", "policy.worth", "policy.chase", "regime.scaled")


def known(name: str, where: str) -> None:
    """:class:`ConfigError` unless ``name`` is a parameter."""
    group = name.partition(".")[0]
    if group not in PARAMETERS:
        raise ConfigError(f"{where}: {name}", "", f"of one of {', '.join(PARAMETERS)}, as "
                                                  "config.slots")
    if name not in PARAMETERS[group][1]:
        shorter = [one.removeprefix(f"{group}.") for one in PARAMETERS[group][1]]
        raise ConfigError(f"{where}: {name}", "",
                          f"a known parameter: {group}. and one of {', '.join(shorter)}")


def check(name: str, value: Any, where: str) -> None:
    """:class:`ConfigError` for a value that no machine has; the others show when it is tried."""
    field = f"{where}: {name}"
    if name in CHOICES and value not in CHOICES[name]():
        raise ConfigError(field, value, f"one of {', '.join(CHOICES[name]())}")
    if name in SWITCHES and not isinstance(value, bool):
        raise ConfigError(field, value, "true or false")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in NUMBERS and not (number and value >= NUMBERS[name]
                                and (name == "policy.limit" or isinstance(value, int))):
        raise ConfigError(field, value, f"a number from {NUMBERS[name]}")
    if name.startswith("memory.") and name != "memory.ideal" and not (
            isinstance(value, int) and number and 0 <= value < 1 << 40):
        raise ConfigError(field, value, "a whole number, 0 or more")
    if name.startswith("regime.") and name[7:] in (
            "bandwidth_scale", "link_gbps", "link_ns", "attention_gbps", "context",
            "buffer_bytes", "slots", "shared") and not (number and 0 <= value < 1e15):
        raise ConfigError(field, value, "a number, 0 or more")
