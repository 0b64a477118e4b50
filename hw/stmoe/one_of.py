"""A multiplexer and an encoder of AND and OR alone."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Const, Value, ValueLike

__all__ = ["number_of", "one_of"]


def one_of(selects: Iterable[ValueLike], values: Iterable[ValueLike]) -> Value:
    """The value whose select is set, of at most one; 0 if none: a balanced tree."""
    terms = [Value.cast(value) & Value.cast(select).replicate(len(Value.cast(value)))
             for select, value in zip(selects, values, strict=True)]
    while len(terms) > 1:
        terms = [terms[at] | terms[at + 1] if at + 1 < len(terms) else terms[at]
                 for at in range(0, len(terms), 2)]
    return terms[0]


def number_of(selects: Value) -> Value:
    """Number of the bit that is set, of at most one; 0 if none."""
    bits = range(len(selects))
    return Cat(*(Cat(selects[i] for i in bits if i >> place & 1).any()
                 for place in range((len(selects) - 1).bit_length()))) if bits[1:] else Const(0)
