"""Generation of text, token by token."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from .drafts import draft
from .engine import MoeEngine, TokensEngine
from .error import require
from .sampling import Sampler
from .tokenizer import END
from .transformer import Transformer

__all__ = ["Generation"]


class Generation:
    """Iterates over the tokens that continue ``prompt``.

    The prompt is computed at the first token. ``reason`` says why it ended: "length"
    (``max_tokens`` reached), "context" (no room for another token), "end" (the model ended its
    document; :data:`END` is not yielded), or "" while it goes on.

    Parameters
    ----------
    prompt: token ids, at least one and at most the context.
    max_tokens: most tokens yielded, 1 or more.
    stop_at_end: off: go on behind :data:`END` as behind any token.
    at_a_time: tokens of the prompt that are computed at a time, None = as many as the engine takes.
    window: tokens that are computed at a time once the prompt is, drafted ones included: the engine
        must take as many. The text is the same for any.

    Attributes
    ----------
    tokens: yielded so far. drafted, accepted: tokens drafted, and of these found right.
    """

    def __init__(self, transformer: Transformer, engine: MoeEngine, prompt: Sequence[int],
                 sampler: Sampler | None = None, *, max_tokens: int = 256,
                 stop_at_end: bool = True, at_a_time: int | None = None, window: int = 1):
        context = transformer.shape.context
        require(len(prompt) > 0, "prompt", "must hold at least one token")
        require(len(prompt) <= context, "prompt",
                f"has {len(prompt)} tokens, the context of the model holds {context}")
        require(max_tokens > 0, "max_tokens", f"must be at least 1, not {max_tokens}")
        self.transformer, self.engine, self.prompt = transformer, engine, list(prompt)
        self.sampler = Sampler() if sampler is None else sampler
        most = getattr(engine, "max_tokens", 1)
        self.at_a_time = most if at_a_time is None else at_a_time
        for name, value in (("window", window), ("at_a_time", self.at_a_time)):
            require(1 <= value <= most, name,
                    f"must be 1 to {most}, the tokens that the engine takes at a time, not {value}")
        self.max_tokens, self.stop_at_end, self.window = max_tokens, stop_at_end, window
        self.drafted = self.accepted = 0
        self.cache = transformer.new_cache()
        self.tokens: list[int] = []
        self.reason = ""

    def __iter__(self) -> Iterator[int]:
        ahead = deque([self.transformer.prefill(self.cache, self.prompt, self.engine,
                                                self.at_a_time)])
        drafts = deque[int]()
        while True:
            token = self.sampler(ahead.popleft())
            if token == END and self.stop_at_end:
                self.reason = "end"
                return
            self.tokens.append(token)
            yield token
            if len(self.tokens) >= self.max_tokens:
                self.reason = "length"
                return
            if drafts and drafts.popleft() == token:
                self.accepted += 1
                continue
            self.cache.length -= len(ahead)  # what was computed for drafts that are wrong
            if not self.cache.room:
                self.reason = "context"
                return
            ahead, drafts = self._compute(token)

    def _compute(self, token: int) -> tuple[deque[np.ndarray], deque[int]]:
        """Logits behind ``token`` and behind what is drafted to follow it, and the drafts."""
        if self.window == 1:
            return deque([self.transformer.step(self.cache, token, self.engine)]), deque()
        most = min(self.window, self.cache.room, self.max_tokens - len(self.tokens)) - 1
        drafts = draft([*self.prompt, *self.tokens], most)
        self.drafted += len(drafts)
        rows = self.transformer.window(self.cache, [token, *drafts],
                                       cast(TokensEngine, self.engine), drafted=True)
        return deque(rows), deque(drafts)
