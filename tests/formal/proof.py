"""A property of the hardware, and designs that do not have it."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from unittest import mock

from .bench import Bench

__all__ = ["Mutation", "Proof"]


@dataclass(frozen=True)
class Mutation:
    """A fault put into the text of a class or function while a bench is built.

    ``target`` is ``module:name`` below ``stmoe``; ``old``, which is there exactly once, becomes
    ``new``. ``users`` are further modules that imported the name. ``rule``: what is to fail.
    """

    target: str
    old: str
    new: str
    rule: str
    users: tuple[str, ...] = ()

    @contextmanager
    def applied(self) -> Iterator[None]:
        path, name = self.target.split(":")
        module = import_module(f"stmoe.{path}")
        text = inspect.getsource(getattr(module, name))
        if text.count(self.old) != 1:
            raise ValueError(f"{self.target}: {self.old!r} is there {text.count(self.old)} times, "
                             "not once")
        scope = dict(vars(module))
        exec(compile(text.replace(self.old, self.new), f"<broken {self.target}>", "exec"), scope)
        with ExitStack() as stack:
            for user in (path, *self.users):
                import_module(f"stmoe.{user}")
                stack.enter_context(
                    mock.patch.object(sys.modules[f"stmoe.{user}"], name, scope[name]))
            yield


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One run of the solver.

    ``build`` makes the bench. ``mode``: ``prove`` (induction of ``depth`` steps) or ``bmc`` (the
    first ``depth`` steps after reset). ``quick`` is the depth of the tests, 0 for none, by
    default the same. ``faults`` have to be found within ``depth`` steps, or ``fault_depth`` if
    given.
    """

    name: str
    module: str
    build: Callable[[], Bench]
    depth: int
    mode: str = "prove"
    quick: int | None = None
    fault_depth: int = 0
    faults: tuple[Mutation, ...] = ()
