"""Choice of the next token from its logits."""

import numpy as np

from .error import require

__all__ = ["Sampler"]


class Sampler:
    """Greedy at ``temperature`` 0, else nucleus sampling with a seeded generator.

    Parameters
    ----------
    temperature: 0 to 10; greedy takes the lower id among equals.
    top_p: above 0, at most 1: the most probable tokens that reach this probability are kept.
    seed: of the generator; equal seeds and logits give equal tokens.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0):
        require(0 <= temperature <= 10, "temperature", f"must be 0 to 10, not {temperature}")
        require(0 < top_p <= 1, "top_p", f"must be above 0 and at most 1, not {top_p}")
        require(seed >= 0, "seed", f"must not be negative, but is {seed}")
        self.temperature, self.top_p = temperature, top_p
        self.rng = np.random.default_rng(seed)

    def __call__(self, logits: np.ndarray) -> int:
        """Next token of ``logits`` [vocab]."""
        if self.temperature == 0:
            return int(np.argmax(logits))
        with np.errstate(over="ignore"):  # the smallest temperatures are greedy
            scaled = (logits - logits.max()) / self.temperature
        order = np.argsort(-scaled, kind="stable")
        share = np.exp(scaled[order])
        total = np.cumsum(share)
        kept = int(np.searchsorted(total, self.top_p * total[-1])) + 1
        at = np.searchsorted(total[:kept], self.rng.random() * total[kept - 1], side="right")
        return int(order[min(int(at), kept - 1)])
