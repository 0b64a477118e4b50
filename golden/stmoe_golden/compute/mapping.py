"""Layer commands of many tokens: who shares an expert, and in which dataflow it is computed."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from stmoe.config import Geometry

from .expert import Expert, moe_layer

__all__ = ["Dataflow", "Group", "Work", "dataflow", "group", "matrix_work", "moe_tokens", "parts",
           "work"]

GATE_ONE = 0x8000


class Dataflow(Enum):
    """How a weight word meets the tokens that need it."""

    INPUT = "input-stationary"  # every token has the word read for itself
    WEIGHT = "weight-stationary"  # the word is read once and stands for a cycle per token


class Group(NamedTuple):
    """An expert and the tokens of the command that it serves, rising."""

    expert: int
    tokens: list[int]


class Work(NamedTuple):
    """What an expert costs a PE: words multiplied (a cycle each), read, and parameter rows read."""

    mac_words: int
    bank_reads: int
    side_reads: int


def group(routing: np.ndarray, shared: Sequence[int] = ()) -> list[Group]:
    """Experts of ``routing`` [token, rank] in order of their first use, rank by rank, token by
    token; then ``shared`` ones, which serve all."""
    found: dict[int, list[int]] = {}
    for token, experts in enumerate(routing.tolist()):
        for expert in experts:
            found.setdefault(expert, []).append(token)
    everybody = list(range(len(routing)))
    return [Group(*each) for each in found.items()] + [Group(e, everybody) for e in shared]


def parts(g: Geometry, sharers: int, tokens: int) -> list[int]:
    """How many tokens of a group each PE computes that has a part of it, of a command of
    ``tokens``; without ``split_groups``, or where experts stream through, one has all.

    A part has at most half of the tokens that a PE would compute if all experts' were dealt evenly,
    but two at least. For that a group is halved, and its halves, while there are PEs for it.
    """
    model, pes = g.config.model, g.config.pes
    even = tokens * (model.top_k + model.shared_units) / pes
    count = 1
    if g.config.split_groups and not g.ring:
        while sharers > count * max(2, even // 2) and 2 * count <= min(pes, g.config.max_tokens):
            count *= 2
    return [len(range(at, sharers, count)) for at in range(count)]


def cost(g: Geometry, tokens: int, flow: Dataflow) -> Work:
    """Of an expert that serves ``tokens`` tokens. Cycles and parameter rows are those of either
    flow, but for the row of the hidden requantiser, which an expert needs once a pass."""
    passes = tokens if flow is Dataflow.INPUT else 1
    return Work(tokens * g.weight_words, passes * g.weight_words,
                passes + tokens * (g.param_rows - 1))


def dataflow(g: Geometry, tokens: int) -> Dataflow:
    """That of fewer cycles, then of fewer reads of the buffer; input-stationary if equal."""
    return min(Dataflow, key=lambda flow: cost(g, tokens, flow))


def work(g: Geometry, tokens: int) -> Work:
    """:func:`cost` in the dataflow that is chosen."""
    return cost(g, tokens, dataflow(g, tokens))


def matrix_work(g: Geometry, tokens: int) -> Work:
    """Of a part of a matrix of dense weights; each word is read once, whatever the tokens."""
    words = g.matrix_tiles * g.out_groups
    return Work(tokens * words, words, tokens * g.out_groups)


def moe_tokens(x: np.ndarray, routing: np.ndarray, gates: np.ndarray,
               experts: dict[int, Expert], shared: Sequence[int] = ()) -> np.ndarray:
    """int16 [token, d_model]: each token's layer for itself, whatever it is computed with.

    ``x`` int8 [token, d_model], ``routing`` ids and ``gates`` uint16 Q1.15 [token, rank].
    """
    return np.array([
        moe_layer(row, [experts[e] for e in (*ids.tolist(), *shared)],
                  np.array([*weights.tolist(), *[GATE_ONE] * len(shared)], np.uint16))
        for row, ids, weights in zip(x, routing, gates, strict=True)])
