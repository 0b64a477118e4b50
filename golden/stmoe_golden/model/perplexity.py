"""Perplexity of token streams under any batch engine."""

import math
from dataclasses import dataclass

import numpy as np

from .engine import BatchEngine
from .error import require
from .transformer import Transformer

__all__ = ["Score", "score", "windows"]

BATCH = 8


@dataclass(frozen=True)
class Score:
    """``nats``: mean of -log p of each of ``tokens`` predicted tokens."""

    nats: float
    tokens: int

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats)


def windows(tokens: np.ndarray, context: int) -> list[np.ndarray]:
    """Runs of at most ``context`` + 1 tokens, each starting with the last token of the one before.

    So every token but the first is predicted exactly once, from at most ``context`` others.
    """
    require(tokens.ndim == 1 and len(tokens) > 1, "tokens",
            f"must be at least two in one dimension, not of shape {list(tokens.shape)}")
    return [tokens[at:at + context + 1] for at in range(0, len(tokens) - 1, context)]


def score(transformer: Transformer, engine: BatchEngine, tokens: np.ndarray) -> Score:
    """How well the model predicts ``tokens`` [n], ids; windows of its context are independent."""
    runs = windows(np.asarray(tokens, np.int64), transformer.shape.context)
    full = [run for run in runs if len(run) == len(runs[0])]
    batches = [np.stack(full[at:at + BATCH]) for at in range(0, len(full), BATCH)]
    batches += [run[None] for run in runs[len(full):]]
    total, count = 0.0, 0
    for batch in batches:
        for logits, after in zip(transformer.forward(batch[:, :-1], engine), batch[:, 1:],
                                 strict=True):
            logits -= logits.max(-1, keepdims=True)
            hit = logits[np.arange(len(after)), after]
            total += float((np.log(np.exp(logits).sum(-1)) - hit).sum())
            count += len(after)
    return Score(total / count, count)
