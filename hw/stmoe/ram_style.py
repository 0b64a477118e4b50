"""Where an FPGA puts a memory."""

__all__ = ["fast_read"]

MOST_WORDS = 256


def fast_read(words: int) -> dict[str, str]:
    """Attributes of a memory whose answer goes through much logic in the cycle after.

    A block RAM of an ECP5 takes half of a period of 10 ns to answer, look-up tables do at once: up
    to ``MOST_WORDS`` words are kept in them. Elsewhere the attribute means nothing.
    """
    return {"ram_style": "distributed"} if words <= MOST_WORDS else {}
