"""Boards, a file each: every module here that has ``BOARDS`` adds them."""

import importlib
import pkgutil
from functools import cache

from ...config import ConfigError
from .board import Board

__all__ = ["Board", "board", "boards"]


@cache
def boards() -> dict[str, Board]:
    """All boards, by name."""
    found = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        for one in getattr(importlib.import_module(f"{__name__}.{info.name}"), "BOARDS", ()):
            found[one.name] = one
    return found


def board(name: str) -> Board:
    """The board called ``name``; :class:`ConfigError` names the known ones."""
    if name not in boards():
        raise ConfigError("--board", name, f"one of {', '.join(boards())}")
    return boards()[name]
