"""Routings of layer commands that are extreme, by name."""

import random

__all__ = ["extremes"]


def extremes(*, tokens: int, experts: int, top_k: int) -> dict[str, list[list[int]]]:
    """Routing [token][rank] by name; ``experts`` at most are used."""
    def cycle(step: int) -> list[list[int]]:
        return [[(token * step + rank) % experts for rank in range(top_k)]
                for token in range(tokens)]

    mixed = random.Random(experts * tokens)
    return {
        "all tokens to the same experts": cycle(0),
        "all different": cycle(top_k),
        "one expert for all, another for each": [
            [0, *(1 + (token + rank) % (experts - 1) for rank in range(top_k - 1))]
            for token in range(tokens)],
        "one token, all its experts for it alone": cycle(top_k)[:1],
        "neighbours share": cycle(1),
        "at random": [mixed.sample(range(experts), top_k) for _ in range(tokens)],
        "at random, fewer tokens": [mixed.sample(range(experts), top_k)
                                    for _ in range(max(1, tokens - 1))]}
