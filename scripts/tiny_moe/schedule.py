"""Learning rate and context length as functions of the tokens seen; when the decay begins."""

from dataclasses import dataclass

__all__ = ["Schedule"]


@dataclass
class Schedule:
    """Linear warm-up, constant rate, linear decay to zero; long sequences at the end.

    ``total`` tokens may be unknown (``None``) until the decay begins: rates do not depend on it
    before. ``warmup`` is in tokens, ``decay`` and ``long`` are shares of the total.
    """

    total: int | None
    warmup: int = 400_000
    decay: float = 0.7
    long: float = 0.15

    def __post_init__(self) -> None:
        if self.total is not None and self.total * (1 - self.decay) < self.warmup:
            raise ValueError(f"tokens: {self.total} leave no room for {self.warmup} of warm-up")
        if not 0 < self.long <= self.decay < 1:
            raise ValueError(f"long, decay: {self.long} and {self.decay} are not ordered shares")

    def rate(self, tokens: int) -> float:
        """Factor of the peak rate, 0 to 1, after ``tokens``."""
        factor = min(1.0, (tokens + 1) / self.warmup)
        if self.total is not None:
            factor = min(factor, (self.total - tokens) / (self.decay * self.total))
        return max(0.0, factor)

    def is_long(self, tokens: int) -> bool:
        """Whether the sequences after ``tokens`` have the full context."""
        return self.total is not None and tokens >= (1 - self.long) * self.total

    def is_done(self, tokens: int) -> bool:
        """Whether training ends after ``tokens``."""
        return self.total is not None and tokens >= self.total

    def fit(self, tokens: int, seconds_left: float, tokens_per_second: float) -> None:
        """Fix the total, once the decay would just fill the time that is left."""
        if self.total is None and tokens >= self.warmup:
            total = int(tokens / (1 - self.decay))
            if total - tokens >= seconds_left * tokens_per_second:
                self.total = total
