"""Tokens drafted for a speculative decoder: what followed the last time."""

from collections.abc import Sequence

__all__ = ["draft"]

LONGEST = 3  # tokens of context that must have occurred before


def draft(tokens: Sequence[int], count: int) -> list[int]:
    """At most ``count`` tokens that might follow ``tokens``: those that followed the most recent
    earlier occurrence of the last three, two tokens or one; none if there is no such."""
    if count == 0:
        return []
    for size in range(min(LONGEST, len(tokens) - 1), 0, -1):
        end = list(tokens[len(tokens) - size:])
        for at in range(len(tokens) - size - 1, -1, -1):
            if list(tokens[at:at + size]) == end:
                return list(tokens[at + size:at + size + count])
    return []
