"""One trace of several, one after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .model import PER_TOKEN, Trace, TraceError

__all__ = ["join"]


def join(traces: Sequence[Trace], name: str, metadata: dict[str, Any] | None = None) -> Trace:
    """The sequences of ``traces`` in their order, of one model.

    An optional array is kept where all of them have it. Domains keep their names; sequences without
    one make the result have none. ``metadata`` replaces that of the first trace with the notes of
    all, domains aside.
    """
    if not traces:
        raise TraceError(f"{name}: empty trace: nothing to join")
    first = traces[0]
    for other in traces[1:]:
        for what in ("layers", "top_k", "num_experts", "model"):
            want, found = getattr(first, what), getattr(other, what)
            if found != want:
                raise TraceError(f"{name}: {what} must be {want!r} as in {first.name}, "
                                 f"not {found!r} as in {other.name}")
    arrays: dict[str, Any] = {}
    for field in PER_TOKEN:
        given = [getattr(trace, field) for trace in traces]
        if all(array is not None for array in given):
            kinds = {(array.dtype, array.shape[1:]) for array in given}
            if len(kinds) > 1:
                raise TraceError(f"{name}: {field} must be of one type and shape, not "
                                 + " and ".join(f"{d.name}{list(s)}" for d, s in kinds))
            arrays[field] = np.concatenate(given)
    names: list[str] = []
    merged = dict(first.metadata if metadata is None else metadata)
    merged.pop("domains", None)
    if metadata is None:
        notes = dict.fromkeys(trace.metadata["note"] for trace in traces
                              if trace.metadata.get("note"))
        merged |= {"note": "; ".join(notes)} if notes else {}
    if all(trace.domain is not None for trace in traces):
        every = [domain for trace in traces for domain in trace.domain_names]
        names = list(dict.fromkeys(every))
        arrays["domain"] = np.array([names.index(domain) for domain in every])
        merged["domains"] = names
    starts = np.cumsum([0, *(trace.tokens for trace in traces)])
    offsets = np.concatenate([trace.offsets[:-1] + start
                              for trace, start in zip(traces, starts, strict=False)])
    return Trace(name=name, model=first.model, num_experts=first.num_experts, metadata=merged,
                 experts=np.concatenate([trace.experts for trace in traces]),
                 offsets=np.append(offsets, starts[-1]), **arrays)
