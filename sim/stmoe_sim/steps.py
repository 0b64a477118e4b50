"""What the tokens of a run are commanded as: one after the other, or many in a layer command."""

from typing import NamedTuple

from stmoe.config import ConfigError
from stmoe.interfaces import Phase

__all__ = ["PHASES", "DenseStep", "Step", "dense_header", "header", "one_by_one", "steps"]

LAYER, DENSE = 2, 7  # opcodes
PHASES = {phase.name.lower(): phase for phase in Phase}


class Step(NamedTuple):
    """Tokens ``start`` to ``stop - 1``, announced by one TOKEN command, in one LAYER command each.

    What is predicted from, and learned, is the last of them.
    """

    start: int
    stop: int
    phase: Phase = Phase.DECODE


class DenseStep(NamedTuple):
    """A DENSE command: ``blobs`` of a layer from number ``first`` on, for ``tokens`` tokens; parts
    of a ``matrix``, or units."""

    layer: int
    first: int
    blobs: int
    tokens: int = 1
    matrix: bool = True


def dense_header(step: DenseStep) -> int:
    """The command's word."""
    return (DENSE | int(not step.matrix) << 8 | step.blobs << 9 | step.layer << 16
            | step.tokens << 32 | step.first << 48)


def steps(tokens: int, at_a_time: int, phase: str = "decode") -> list[Step]:
    """``tokens`` in steps of ``at_a_time``, the last one of what is left; of one, decode."""
    if phase not in PHASES:
        raise ConfigError("phase", phase, f"one of {', '.join(PHASES)}")
    return [Step(start, min(start + at_a_time, tokens),
                 PHASES[phase] if at_a_time > 1 else Phase.DECODE)
            for start in range(0, tokens, at_a_time)]


def one_by_one(tokens: int) -> list[Step]:
    """``tokens`` of decode."""
    return steps(tokens, 1)


def header(layer: int, tokens: int, phase: Phase, on_chip: bool) -> int:
    """First word of a LAYER command."""
    return LAYER | int(on_chip) << 8 | phase << 9 | layer << 16 | tokens << 32
