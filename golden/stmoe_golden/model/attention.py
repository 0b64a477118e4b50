"""Rotary causal attention over cached or whole sequences, in float64."""

import numpy as np

from .shape import LmShape

__all__ = ["Rotary", "attend", "merge_heads", "rms_norm", "split_heads"]

BLOCK = 32  # queries
HIDDEN = -1e9  # score of a key that a query must not see


def rms_norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """``x`` [..., d_model] divided by its root mean square, times ``gain`` [d_model]."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def split_heads(x: np.ndarray, heads: int) -> np.ndarray:
    """[..., token, d_model] to [..., head, token, head_dim]."""
    return np.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -3, -2)


def merge_heads(x: np.ndarray) -> np.ndarray:
    """[..., head, token, head_dim] to [..., token, d_model]."""
    x = np.swapaxes(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


class Rotary:
    """Rotation of the pairs (i, i + head_dim/2) by position * theta ** (-2 i / head_dim)."""

    def __init__(self, shape: LmShape):
        half = shape.head_dim // 2
        rate = shape.theta ** (-np.arange(half) / half)
        angle = np.arange(shape.context)[:, None] * rate
        self.cos, self.sin = np.cos(angle), np.sin(angle)

    def __call__(self, x: np.ndarray, start: int) -> np.ndarray:
        """``x`` [..., token, head_dim], whose first token is at position ``start``."""
        stop, half = start + x.shape[-2], x.shape[-1] // 2
        cos, sin = self.cos[start:stop], self.sin[start:stop]
        low, high = x[..., :half], x[..., half:]
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal softmax attention, [..., head, query, head_dim].

    ``k`` and ``v`` [..., head, key, head_dim] hold at least as many tokens as ``q``; the last
    query sees every key, the one before all but the last, and so on.
    """
    queries, before = q.shape[-2], k.shape[-2] - q.shape[-2]
    scaled, across = q / np.sqrt(q.shape[-1]), np.ascontiguousarray(np.swapaxes(k, -1, -2))
    out = np.empty(q.shape)
    # In blocks: keys that no query of a block sees are left out, and scores stay in the cache.
    for start in range(0, queries, BLOCK):
        stop = min(start + BLOCK, queries)
        score = scaled[..., start:stop, :] @ across[..., :before + stop]
        hidden = ~np.tri(stop - start, dtype=bool)
        score[..., before + start:][..., hidden] = HIDDEN
        score -= score.max(-1, keepdims=True)
        np.exp(score, out=score)
        mixed = score @ v[..., :before + stop, :]
        out[..., start:stop, :] = mixed / score.sum(-1, keepdims=True)
    return out
