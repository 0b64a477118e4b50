"""Runs a model over prompts and texts, and collects its routing as a trace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from stmoe_golden.trace import DECODE, PREFILL, Trace, join

__all__ = ["DEFAULT_TOKENS", "OPTIONAL", "RecordError", "Recordable", "Session", "Source", "Step",
           "record"]

OPTIONAL = ("hidden", "logits", "lookahead")
CHUNK = 128
DEFAULT_TOKENS = 64


class RecordError(ValueError):
    """A model or text that cannot be recorded; the message names it, the value and the limit."""


class Step(NamedTuple):
    """Routing of some tokens: ``arrays`` as :class:`~stmoe_golden.trace.Trace` names them,
    [token, layer, ..], and the token that the model puts next."""

    arrays: dict[str, np.ndarray]
    following: int


class Session(Protocol):
    """A sequence under way, with its KV cache."""

    def feed(self, ids: Sequence[int]) -> Step:
        """Append ``ids`` to the sequence."""
        ...


class Recordable(Protocol):
    """A model that can be recorded.

    ``context``: most tokens of a sequence. ``stops``: ids that end a text. ``experts``: per layer.
    ``note``: shown wherever numbers of its traces are.
    """

    name: str
    context: int
    stops: frozenset[int]
    experts: int
    note: str

    def encode(self, text: str) -> list[int]:
        """Ids of a text as the start of a sequence."""
        ...

    def session(self, keep: frozenset[str]) -> Session:
        """A new sequence; ``keep`` names those of :data:`OPTIONAL` that its steps hold."""
        ...


@dataclass(frozen=True)
class Source:
    """What a sequence is made from.

    ``name``: for messages. ``forced``: the text's own tokens are recorded as decode tokens; else
    the text is a prompt, which the model continues greedily. ``ids``: token ids in place of a text.
    """

    name: str
    text: str = ""
    forced: bool = False
    domain: str | None = None
    ids: tuple[int, ...] | None = None


def _windows(model: Recordable, source: Source, ids: list[int],
             tokens: int | None) -> list[list[int]]:
    """Sequences of a text: the whole of it, or what the context holds at a time."""
    ids = ids[:tokens]
    return [ids[start:start + model.context] for start in range(0, len(ids), model.context)]


class _Sequence:
    """Collects the steps of a sequence."""

    def __init__(self) -> None:
        self.arrays: dict[str, list[np.ndarray]] = {}
        self.token: list[int] = []
        self.phase: list[int] = []

    def add(self, ids: Sequence[int], phase: int, step: Step) -> int:
        self.token += ids
        self.phase += [phase] * len(ids)
        for name, array in step.arrays.items():
            self.arrays.setdefault(name, []).append(array)
        return step.following

    def trace(self, model: Recordable, source: Source) -> Trace:
        domain: dict[str, Any] = {} if source.domain is None else {
            "domain": np.zeros(1, np.uint8)}
        names = {} if source.domain is None else {"domains": [source.domain]}
        return Trace(name=source.name, model=model.name, offsets=np.array([0, len(self.token)]),
                     token=np.array(self.token), phase=np.array(self.phase),
                     num_experts=model.experts, metadata={"note": model.note, **names}, **domain,
                     **{name: np.concatenate(parts) for name, parts in self.arrays.items()})


def record(model: Recordable, sources: Sequence[Source], *, name: str, tokens: int | None = None,
           keep: frozenset[str] = frozenset(),
           progress: Callable[[int], None] = lambda tokens: None) -> Trace:
    """The routing of ``model`` over ``sources``, one after the other.

    Parameters
    ----------
    name: of the trace.
    tokens: decode tokens per source: of a prompt at most so many (:data:`DEFAULT_TOKENS` if
        None), fewer where the
        model ends its text; of a text the first so many (all if None). A text longer than the
        context is cut into sequences of that length.
    keep: optional arrays to record, of :data:`OPTIONAL`.
    progress: called with the number of tokens done.
    """
    made, decode = 0, DEFAULT_TOKENS if tokens is None else tokens
    prompts = [(source, model.encode(source.text) if source.ids is None else list(source.ids))
               for source in sources]
    for source, ids in prompts:
        if not ids:
            raise RecordError(f"{source.name}: must hold at least one token")
        room = model.context - decode
        if not source.forced and len(ids) > room:
            raise RecordError(f"{source.name}: prompt must be at most {max(0, room)} tokens, the "
                              f"context of {model.context} less {decode} to decode, not {len(ids)}")
    traces = []
    for source, ids in prompts:
        for part in _windows(model, source, ids, tokens) if source.forced else [ids]:
            session, sequence = model.session(keep), _Sequence()
            following = 0
            for start in range(0, len(part), CHUNK):
                chunk = part[start:start + CHUNK]
                following = sequence.add(chunk, DECODE if source.forced else PREFILL,
                                         session.feed(chunk))
                made += len(chunk)
                progress(made)
            for _ in range(0 if source.forced else decode):
                if following in model.stops:
                    break
                following = sequence.add([following], DECODE, session.feed([following]))
                made += 1
                progress(made)
            traces.append(sequence.trace(model, source))
    return join(traces, name)
