"""Predictors by name: every :class:`Predictor` of this folder, and of files that are named."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from .predictor import Predictor, PredictorError, Shape

__all__ = ["make", "names", "predictor_class", "predictors_of"]

SCHEDULE = "none", "popularity", "popularity-ageing", "previous-token", "cct", "table", \
    "activation-matrix", "lookahead", "linear", "combined", "oracle"


def predictors_of(module: ModuleType) -> list[type[Predictor]]:
    """The predictors that ``module`` itself defines."""
    return [item for item in vars(module).values()
            if inspect.isclass(item) and issubclass(item, Predictor) and "name" in vars(item)
            and item.__module__ == module.__name__]


def _classes() -> dict[str, type[Predictor]]:
    package = sys.modules[__package__]
    found: dict[str, type[Predictor]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        for item in predictors_of(importlib.import_module(f"{__package__}.{info.name}")):
            if item.name in found:
                raise PredictorError(f"predictor {item.name!r} is defined by {found[item.name]} "
                                     f"and by {item}")
            found[item.name] = item
    return found


def names() -> list[str]:
    """All predictors of the folder, from the plainest to the oracle, others at the end."""
    found = _classes()
    return sorted(found, key=lambda name: (SCHEDULE.index(name) if name in SCHEDULE
                                           else len(SCHEDULE), name))


def _from_file(path: Path) -> type[Predictor]:
    if not path.is_file():
        raise PredictorError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"stmoe_predictor_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise PredictorError(f"{path}: {type(error).__name__}: {error}") from error
    found = predictors_of(module)
    if len(found) != 1:
        raise PredictorError(f"{path}: must define one predictor with a name, not {len(found)}")
    return found[0]


def predictor_class(text: str) -> type[Predictor]:
    """The class that ``NAME`` or ``FILE.py``, with or without options behind it, asks for."""
    name = text.partition(":")[0]
    if name.endswith(".py"):
        return _from_file(Path(name))
    found = _classes()
    if name not in found:
        raise PredictorError(f"unknown predictor {name!r}; known are {', '.join(names())}, "
                             "or a file that ends in .py")
    return found[name]


def _value(option: str, text: str) -> Any:
    """An integer; or pairs of lags, ``0.1/1.0``; or ``none``, no pair."""
    try:
        if text == "none":
            return ()
        if "." in text:
            return tuple((int(token), int(layer)) for token, layer in
                         (pair.split(".") for pair in text.split("/")))
        return int(text)
    except ValueError:
        raise PredictorError(f"{option} must be an integer, or pairs as 0.1/1.0, not {text!r}"
                             ) from None


def make(text: str, shape: Shape) -> Predictor:
    """A fresh predictor from ``NAME``, or ``NAME:OPTION=VALUE:OPTION=VALUE``."""
    made, options = predictor_class(text), {}
    known = list(inspect.signature(made.__init__).parameters)[2:]
    for part in text.split(":")[1:]:
        option, equals, value = part.partition("=")
        if not equals or option not in known:
            raise PredictorError(f"option of {made.name} must be OPTION=VALUE with one of "
                                 f"{', '.join(known) or 'none at all'}, not {part!r}")
        options[option] = _value(f"{made.name}:{option}", value)
    return made(shape, **options)
