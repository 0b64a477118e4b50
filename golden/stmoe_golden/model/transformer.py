"""The host's part of the model: everything but the MoE layers, which an engine computes.

All of it is float64, though weights are stored in float16: the order in which a BLAS sums, which
differs between machines and between one token and many, then moves results by about 1e-15, far
below what an int8 activation can see. So the text is the same everywhere, and so are the integers
of a token computed alone and in a batch.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from .attention import Rotary, attend, merge_heads, rms_norm, split_heads
from .engine import BatchEngine, MoeEngine, TokensEngine
from .error import require
from .weights import Backbone

if TYPE_CHECKING:
    from .projections import Projections

__all__ = ["PROJECTIONS", "Cache", "Transformer"]

PROJECTIONS = ("wq", "wk", "wv", "wo")
"""Of attention, by the names of their tensors."""

Moe = Callable[[int, np.ndarray], np.ndarray]


class Cache:
    """Keys and values of a sequence; ``length`` tokens of at most ``context``."""

    def __init__(self, backbone: Backbone):
        shape = backbone.shape
        size = (shape.layers, shape.heads, shape.context, shape.head_dim)
        self.keys, self.values = np.zeros(size), np.zeros(size)
        self.length = 0

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self.keys.shape[2] - self.length


class Transformer:
    """Inference with weights of ``backbone``; the MoE layers are an engine's, and so are, where
    ``projections`` are given, those of attention.

    Logits are float64 [vocab]. Token ids beyond the vocabulary and more tokens than the context
    holds are a :class:`ModelError`.
    """

    def __init__(self, backbone: Backbone, projections: "Projections | None" = None):
        self.shape, self.backbone, self.projections = backbone.shape, backbone, projections
        self.weights = {name: value.astype(np.float64) for name, value in
                        backbone.tensors().items()}
        self.rotary = Rotary(backbone.shape)

    def new_cache(self) -> Cache:
        return Cache(self.backbone)

    def _embed(self, tokens: np.ndarray, room: int) -> np.ndarray:
        tokens = np.asarray(tokens)
        require(tokens.size > 0 and tokens.dtype.kind in "iu", "tokens",
                f"must be integers, at least one, not {tokens.dtype}{list(tokens.shape)}")
        require(tokens.shape[-1] <= room, "tokens",
                f"{tokens.shape[-1]} tokens were given where the context of {self.shape.context} "
                f"has room for {room}")
        bad = (tokens < 0) | (tokens >= self.shape.vocab)
        require(not bad.any(), "tokens", f"an id must be 0 to {self.shape.vocab - 1}, "
                f"not {tokens[bad][0] if bad.any() else 0}")
        return self.weights["embed"][tokens]

    def _project(self, layer: int, name: str, x: np.ndarray) -> np.ndarray:
        if self.projections is None:
            return x @ self.weights[name][layer].T
        return self.projections.project(layer, name, x.reshape(-1, x.shape[-1])).reshape(x.shape)

    def _projections(self, layer: int, x: np.ndarray,
                     start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w, heads = self.weights, self.shape.heads
        n = rms_norm(x, w["attn_norm"][layer], self.shape.eps)
        q, k, v = (split_heads(self._project(layer, name, n), heads) for name in PROJECTIONS[:3])
        return self.rotary(q, start), self.rotary(k, start), v

    def _after_attention(self, layer: int, x: np.ndarray, mixed: np.ndarray,
                         moe: Moe) -> np.ndarray:
        w = self.weights
        x = x + self._project(layer, "wo", merge_heads(mixed))
        n = rms_norm(x, w["moe_norm"][layer], self.shape.eps).astype(np.float32)
        return x + moe(layer, n.reshape(-1, n.shape[-1])).reshape(n.shape)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        return rms_norm(x, self.weights["final_norm"], self.shape.eps) @ self.weights["embed"].T

    def stream(self, tokens: np.ndarray, engine: BatchEngine) -> np.ndarray:
        """What leaves the last block, [sequence, token, d_model], of ids [sequence, token]."""
        x = self._embed(tokens, self.shape.context)
        for layer in range(self.shape.layers):
            # One sequence at a time: its scores stay in the processor's cache.
            mixed = [attend(*self._projections(layer, one, 0)) for one in x]
            x = self._after_attention(layer, x, np.stack(mixed), engine.layers)
        return x

    def forward(self, tokens: np.ndarray, engine: BatchEngine) -> np.ndarray:
        """Logits [sequence, token, vocab] of whole sequences of ids [sequence, token], no cache."""
        return self._logits(self.stream(tokens, engine))

    def _extend(self, cache: Cache, tokens: Sequence[int], moe: Moe) -> np.ndarray:
        x = self._embed(np.asarray(tokens), cache.room)
        start, stop = cache.length, cache.length + len(tokens)
        for layer in range(self.shape.layers):
            q, k, v = self._projections(layer, x, start)
            keys, values = cache.keys[layer], cache.values[layer]
            keys[:, start:stop], values[:, start:stop] = k, v
            mixed = attend(q, keys[:, :stop], values[:, :stop])
            x = self._after_attention(layer, x, mixed, moe)
        cache.length = stop
        return self._logits(x)

    def step(self, cache: Cache, token: int, engine: MoeEngine) -> np.ndarray:
        """Append one token to ``cache``; logits [vocab] of the token after it."""
        require(cache.room > 0, "context", f"all {self.shape.context} tokens are used")
        engine.begin_token(int(token), cache.length == 0)
        return self._extend(cache, [token], lambda layer, n: engine.layer(layer, n[0])[None])[0]

    def window(self, cache: Cache, tokens: Sequence[int], engine: TokensEngine, *,
               drafted: bool) -> np.ndarray:
        """Append tokens at once, as :meth:`TokensEngine.begin_tokens` has them; logits [token,
        vocab] of the token after each. What is not kept is cut off ``cache`` by its length."""
        self._embed(np.asarray(tokens), cache.room)
        engine.begin_tokens(tokens, cache.length, drafted=drafted)
        return self._extend(cache, tokens, engine.layers)

    def prefill(self, cache: Cache, tokens: Sequence[int],
                engine: MoeEngine | TokensEngine, at_a_time: int = 1) -> np.ndarray:
        """Append a prompt, ``at_a_time`` tokens together, which ``engine`` must take; logits
        [vocab] of the token after it."""
        self._embed(np.asarray(tokens), cache.room)
        for at in range(0, len(tokens), at_a_time):
            if at_a_time == 1:
                logits = self.step(cache, tokens[at], engine)
            else:
                logits = self.window(cache, tokens[at:at + at_a_time],
                                     cast(TokensEngine, engine), drafted=False)[-1]
        return logits

    def prefill_whole(self, cache: Cache, tokens: Sequence[int],
                      engine: BatchEngine) -> np.ndarray:
        """Append a prompt in one pass; logits [vocab] of the token after it."""
        return self._extend(cache, tokens, engine.layers)[-1]
