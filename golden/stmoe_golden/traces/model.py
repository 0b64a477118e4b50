"""A recorded routing trace, validated."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["ARRAYS", "DECODE", "MAX_EXPERTS", "PREFILL", "Trace", "TraceError"]

ARRAYS = ("experts", "offsets", "token", "weights", "phase", "domain", "hidden", "logits",
          "lookahead")
PER_TOKEN = ("token", "weights", "phase", "hidden", "logits", "lookahead")
PREFILL, DECODE = 0, 1
MAX_EXPERTS = 512


class TraceError(ValueError):
    """An illegal trace; the message names the file, the line or field, the value and the limit."""


def _require(good: bool, name: str, text: str) -> None:
    if not good:
        raise TraceError(f"{name}: {text}")


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Routing of a model, token by token; checked when made, :class:`TraceError` if illegal.

    Parameters
    ----------
    name: for reports and messages.
    experts: int16 [token, layer, rank], rank 0 = largest router weight. -1, of all ranks: not
        recorded, only in the last layer of a prefill token.
    offsets: int64 [sequences + 1], first token of each sequence, and the end. No empty sequence.
    token: int32 [token], identity of the input token, -1 unknown (default: all unknown).
    weights: float32 [token, layer, rank], router weights as recorded, or None.
    phase: uint8 [token], 0 prefill, 1 decode (default: all decode).
    num_experts: experts per layer, 2 to 512; 0 = highest id + 1.
    model: the model that was recorded.
    domain: uint8 [sequences], index into ``metadata["domains"]``, or None. Sequences follow one
        another in time, so that a change of domain is a switch in mid-stream.
    hidden: float16 or int8 [token, layer, d_model], input of each MoE layer, which its router and
        experts see, or None. int8 is what the accelerator receives.
    logits: float16 [token, layer, expert], router logits of the layer, or None.
    lookahead: float16 [token, layer, expert], logits of the *next* MoE layer's router on this
        layer's input, zero in the last layer, or None.
    metadata: JSON data; ``note`` is shown wherever numbers of the trace are; ``domains`` names the
        domains, a list of distinct strings.
    """

    name: str
    experts: np.ndarray
    offsets: np.ndarray
    token: np.ndarray = None  # type: ignore[assignment]
    weights: np.ndarray | None = None
    phase: np.ndarray = None  # type: ignore[assignment]
    num_experts: int = 0
    model: str = "unknown"
    domain: np.ndarray | None = None
    hidden: np.ndarray | None = None
    logits: np.ndarray | None = None
    lookahead: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_experts()
        count = len(self.experts)
        self._take("offsets", self.offsets, np.int64, None)
        offsets = self.offsets
        _require(offsets.ndim == 1 and len(offsets) >= 2, self.name,
                 f"offsets must hold at least 2 values, not shape {offsets.shape}")
        _require(offsets[0] == 0, self.name, f"offsets[0] must be 0, not {offsets[0]}")
        _require(offsets[-1] == count, self.name,
                 f"offsets[{len(offsets) - 1}] must be the number of tokens {count}, "
                 f"not {offsets[-1]}")
        falling = np.diff(offsets) <= 0
        if falling.any():
            at = _first(falling)[0]
            raise TraceError(f"{self.name}: offsets[{at + 1}] must be above offsets[{at}] = "
                             f"{offsets[at]}, not {offsets[at + 1]}")
        self._take("token", np.full(count, -1) if self.token is None else self.token,
                   np.int32, (count,))
        self._within("token", self.token, -1, 2**31 - 1)
        self._take("phase", np.full(count, DECODE) if self.phase is None else self.phase,
                   np.uint8, (count,))
        self._within("phase", self.phase, PREFILL, DECODE)
        self._check_unknown()
        if self.weights is not None:
            self._check_weights()
        self._check_domain()
        self._check_activations()

    def _take(self, name: str, value: Any, kind: Any, shape: tuple[int, ...] | None) -> None:
        array = np.asarray(value)
        _require(array.dtype.kind in ("fiu" if kind is np.float32 else "iu"), self.name,
                 f"{name} must be {np.dtype(kind).name}, not {array.dtype}")
        _require(shape is None or array.shape == shape, self.name,
                 f"{name} must have shape {shape}, not {array.shape}")
        if array.dtype.kind in "iu" and kind is not np.float32 and array.size:
            limit = np.iinfo(kind)
            self._within(name, array, int(limit.min), int(limit.max))
        taken = np.array(array, kind)
        taken.setflags(write=False)
        object.__setattr__(self, name, taken)

    def _within(self, name: str, array: np.ndarray, low: int, high: int) -> None:
        bad = (array < low) | (array > high)
        if bad.any():
            at = _first(bad)
            raise TraceError(f"{self.name}: {name}[{', '.join(map(str, at))}] must be "
                             f"{low} to {high}, not {array[at]}")

    def _check_experts(self) -> None:
        experts = np.asarray(self.experts)
        _require(experts.ndim == 3, self.name,
                 f"experts must be [token, layer, rank], not of shape {experts.shape}")
        _require(experts.size > 0, self.name,
                 f"empty trace: experts of shape {experts.shape} hold no routing")
        self._take("experts", experts, np.int16, None)
        count = self.num_experts
        _require(isinstance(count, int | np.integer) and not isinstance(count, bool), self.name,
                 f"num_experts must be an integer, not {count!r}")
        count = int(count) or max(2, int(self.experts.max()) + 1)
        _require(2 <= count <= MAX_EXPERTS, self.name,
                 f"num_experts must be 2 to {MAX_EXPERTS}, not {count}")
        object.__setattr__(self, "num_experts", count)
        bad = (self.experts < 0) | (self.experts >= count)
        bad[:, -1] &= ~(self.experts[:, -1] == -1).all(1, keepdims=True)
        if bad.any():
            token, layer, rank = _first(bad)
            raise TraceError(f"{self.name}: token {token}, layer {layer}, rank {rank}: expert must "
                             f"be 0 to {count - 1}, not {self.experts[token, layer, rank]}")
        ordered = np.sort(self.experts, axis=-1)
        twice = (np.diff(ordered, axis=-1) == 0) & (ordered[..., 1:] >= 0)
        if twice.any():
            token, layer, rank = _first(twice)
            raise TraceError(f"{self.name}: token {token}, layer {layer}: experts must be distinct,"
                             f" but {ordered[token, layer, rank]} occurs twice")

    def _check_unknown(self) -> None:
        bad = (self.experts[:, -1, 0] < 0) & (self.phase != PREFILL)
        if bad.any():
            token, layer = _first(bad)[0], self.layers - 1
            raise TraceError(f"{self.name}: token {token}, layer {layer}: experts must be recorded "
                             "of a decode token, not -1")

    def _check_weights(self) -> None:
        self._take("weights", self.weights, np.float32, self.experts.shape)
        weights = self.weights
        assert weights is not None
        bad = ~np.isfinite(weights) | (weights < 0)
        if bad.any():
            token, layer, rank = _first(bad)
            raise TraceError(f"{self.name}: token {token}, layer {layer}, rank {rank}: weight must "
                             f"be finite and not negative, not {weights[token, layer, rank]}")

    def _check_domain(self) -> None:
        names = self.metadata.get("domains", [])
        legal = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        _require(legal and len(set(names)) == len(names), self.name,
                 f"metadata.domains must be a list of distinct names, not {names!r}")
        if self.domain is not None:
            _require(bool(names), self.name, "domain needs its names in metadata.domains")
            self._take("domain", self.domain, np.uint8, (self.sequences,))
            self._within("domain", self.domain, 0, len(names) - 1)

    def _check_activations(self) -> None:
        if self.hidden is not None:
            hidden = np.asarray(self.hidden)
            _require(hidden.ndim == 3 and hidden.shape[2] >= 1, self.name,
                     f"hidden must be [token, layer, d_model], not of shape {hidden.shape}")
            shape = (self.tokens, self.layers, hidden.shape[2])
            if hidden.dtype.kind == "f":
                self._take_half("hidden", hidden, shape)
            else:
                self._take("hidden", hidden, np.int8, shape)
        scores = (self.tokens, self.layers, self.num_experts)
        if self.logits is not None:
            self._take_half("logits", self.logits, scores)
        if self.lookahead is not None:
            self._take_half("lookahead", self.lookahead, scores)
            nonzero = self.lookahead[:, -1] != 0
            if nonzero.any():
                token, expert = _first(nonzero)
                raise TraceError(f"{self.name}: lookahead[{token}, {self.layers - 1}, {expert}] "
                                 "must be 0, there is no layer behind the last, not "
                                 f"{self.lookahead[token, -1, expert]}")

    def _take_half(self, name: str, value: Any, shape: tuple[int, ...]) -> None:
        """As :meth:`_take`, in float16; what overflows it is refused."""
        given = np.asarray(value)
        _require(given.dtype.kind == "f", self.name, f"{name} must be float16, not {given.dtype}")
        with np.errstate(over="ignore"):
            taken = given.astype(np.float16)
        _require(given.shape == shape, self.name,
                 f"{name} must have shape {shape}, not {given.shape}")
        bad = ~np.isfinite(taken)
        if bad.any():
            at = _first(bad)
            raise TraceError(f"{self.name}: {name}[{', '.join(map(str, at))}] must be finite and "
                             f"-65504 to 65504, not {given[at]}")
        taken.setflags(write=False)
        object.__setattr__(self, name, taken)

    @property
    def tokens(self) -> int:
        return len(self.experts)

    @property
    def layers(self) -> int:
        return self.experts.shape[1]

    @property
    def top_k(self) -> int:
        return self.experts.shape[2]

    @property
    def sequences(self) -> int:
        return len(self.offsets) - 1

    def select(self, keep: np.ndarray) -> "Trace":
        """The trace of the tokens where ``keep``; sequences left empty disappear."""
        keep = np.asarray(keep, bool)
        _require(keep.shape == (self.tokens,), self.name,
                 f"a selection must have shape {(self.tokens,)}, not {keep.shape}")
        _require(bool(keep.any()), self.name, "empty trace: no token selected")
        offsets = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        left = np.diff(offsets) > 0
        kept: dict[str, Any] = {name: None if getattr(self, name) is None
                                else getattr(self, name)[keep] for name in PER_TOKEN}
        return Trace(
            name=self.name, model=self.model, experts=self.experts[keep],
            offsets=np.unique(offsets), num_experts=self.num_experts, metadata=dict(self.metadata),
            domain=None if self.domain is None else self.domain[left], **kept)

    @property
    def domain_names(self) -> list[str]:
        """Name of each sequence's domain, empty if the trace tells none."""
        if self.domain is None:
            return []
        return [self.metadata["domains"][index] for index in self.domain]
