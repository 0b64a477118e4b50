"""Generation of text, token by token."""

from collections.abc import Iterator, Sequence

from .engine import MoeEngine
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
    """

    def __init__(self, transformer: Transformer, engine: MoeEngine, prompt: Sequence[int],
                 sampler: Sampler | None = None, *, max_tokens: int = 256,
                 stop_at_end: bool = True):
        context = transformer.shape.context
        require(len(prompt) > 0, "prompt", "must hold at least one token")
        require(len(prompt) <= context, "prompt",
                f"has {len(prompt)} tokens, the context of the model holds {context}")
        require(max_tokens > 0, "max_tokens", f"must be at least 1, not {max_tokens}")
        self.transformer, self.engine, self.prompt = transformer, engine, list(prompt)
        self.sampler = Sampler() if sampler is None else sampler
        self.max_tokens, self.stop_at_end = max_tokens, stop_at_end
        self.cache = transformer.new_cache()
        self.tokens: list[int] = []
        self.reason = ""

    def __iter__(self) -> Iterator[int]:
        logits = self.transformer.prefill(self.cache, self.prompt, self.engine)
        while True:
            token = self.sampler(logits)
            if token == END and self.stop_at_end:
                self.reason = "end"
                return
            self.tokens.append(token)
            yield token
            if len(self.tokens) >= self.max_tokens:
                self.reason = "length"
                return
            if not self.cache.room:
                self.reason = "context"
                return
            logits = self.transformer.step(self.cache, token, self.engine)
