"""The part of a trace that a run profiles on, warms up on and measures."""

from dataclasses import dataclass

import numpy as np

from .model import DECODE, PREFILL, Trace, TraceError

__all__ = ["Window", "decode_slice"]


@dataclass(frozen=True)
class Window:
    """Tokens of ``trace``: ``profile`` [from, to), ``passes`` times over; then, from ``start``,
    ``warmup`` uncounted and ``tokens`` counted decode tokens, all consecutive. ``trace`` is the one
    given, less the prefill tokens after the profile."""

    trace: Trace
    profile: tuple[int, int]
    start: int
    warmup: int
    tokens: int
    passes: int = 1

    @property
    def replayed(self) -> slice:
        return slice(self.start, self.start + self.warmup + self.tokens)


def decode_slice(trace: Trace, tokens: int, warmup: int = 0, profile: int | None = None,
                 passes: int = 1) -> Window:
    """The part of ``trace`` to replay.

    Parameters
    ----------
    tokens: decode tokens to measure, at least 1; must be there.
    warmup: decode tokens replayed before, not counted.
    profile: tokens at the front that the correlation table is profiled on. Default: the first fifth
        of the sequences, at least one; of a trace of a single sequence, its prompt if it has one,
        else its first fifth of tokens.
    passes: times that what learns token by token goes over it.
    """
    if profile is None:
        if trace.sequences > 1:
            profile = int(trace.offsets[max(1, trace.sequences // 5)])
        else:
            prompt = int((trace.phase == PREFILL).sum())
            profile = prompt or trace.tokens // 5
    if not 0 <= profile < trace.tokens:
        raise TraceError(f"{trace.name}: profile tokens must be 0 to {trace.tokens - 1}, "
                         f"not {profile}")
    behind = np.arange(trace.tokens) >= profile
    if (trace.phase[behind] == PREFILL).any():
        trace = trace.select(~behind | (trace.phase == DECODE))
    available = trace.tokens - profile - warmup
    if warmup < 0 or warmup >= trace.tokens - profile:
        raise TraceError(f"{trace.name}: warm-up tokens must be 0 to "
                         f"{max(0, trace.tokens - profile - 1)}, not {warmup}")
    if not 1 <= tokens <= available:
        raise TraceError(f"{trace.name}: tokens must be 1 to {available} (decode tokens after "
                         f"{profile} profiled and {warmup} warm-up ones), not {tokens}")
    return Window(trace, (0, profile), profile, warmup, tokens, passes)
