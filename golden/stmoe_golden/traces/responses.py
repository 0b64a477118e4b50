"""The ``routed_experts`` in JSON responses of vLLM and SGLang, see docs/traces.md."""

import base64
import binascii
import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .model import TraceError

__all__ = ["Response", "integers", "read_numpy", "responses"]

NPY = b"\x93NUMPY"
PLACES = (("routed_experts",), ("meta_info", "routed_experts"), ("sglext", "routed_experts"))


class Response(NamedTuple):
    """A response: where it was found, ids [token, layer, rank] as found, and what else is told.

    ``token``: identities of prompt and answer. ``prompt``: tokens of the prompt.
    """

    where: str
    ids: np.ndarray
    token: list[int] | None = None
    prompt: int | None = None


class Decoder(NamedTuple):
    """What SGLang's base64 does not tell: layers, dense ones included, and experts per token."""

    layers: int | None
    top_k: int | None

    def array(self, value: Any, where: str) -> np.ndarray:
        """Ids [token, layer, rank] of base64 text or nested lists."""
        return self._text(value, where) if isinstance(value, str) else _nested(value, where)

    def _text(self, text: str, where: str) -> np.ndarray:
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise TraceError(f"{where}: text must be base64: {error}") from None
        if data.startswith(NPY):
            return read_numpy(io.BytesIO(data), where)
        if self.layers is None or self.top_k is None:
            raise TraceError(f"{where}: base64 of plain int32 needs the shape: --layers and "
                             "--top-k")
        size = 4 * self.layers * self.top_k
        if len(data) % size:
            raise TraceError(f"{where}: {len(data)} bytes must be a multiple of {size}, int32 of "
                             f"{self.layers} layers x top-{self.top_k}")
        return np.frombuffer(data, "<i4").reshape(-1, self.layers, self.top_k)


def read_numpy(source: Any, where: str) -> Any:
    """What ``np.load`` gives without pickles; :class:`TraceError` if it is none."""
    try:
        return np.load(source, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TraceError(f"{where}: not a readable NumPy file: {error}") from None


def integers(value: Any, where: str) -> list[int] | None:
    """``value`` if it is a list of integers or None."""
    if value is not None and (not isinstance(value, list)
                              or any(type(entry) is not int for entry in value)):
        raise TraceError(f"{where}: must be a list of integers")
    return value


def _nested(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, list):
        raise TraceError(f"{where}: must be nested lists or base64 text, not "
                         f"{type(value).__name__}")
    for token, layers in enumerate(value):
        if not isinstance(layers, list) or len(layers) != len(value[0]):
            raise TraceError(f"{where}: token {token} must hold a list of as many layers as "
                             "token 0")
        for layer, ranks in enumerate(layers):
            at = f"{where}: token {token}, layer {layer}"
            if not isinstance(ranks, list) or len(ranks) != len(value[0][0]):
                raise TraceError(f"{at} must hold a list of as many ids as token 0, layer 0")
            for rank, expert in enumerate(ranks):
                if type(expert) is not int:
                    raise TraceError(f"{at}, rank {rank}: expert must be an integer, "
                                     f"not {expert!r}")
    return np.array(value)


def _field(data: Any, *names: str) -> Any:
    """What is at a path of names in JSON data, or None."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def _single(data: dict[str, Any], place: tuple[str, ...], where: str,
            decoder: Decoder) -> Response:
    """A response with one answer: SGLang's, or a plain ``routed_experts``."""
    at = f"{where}.{'.'.join(place)}"
    token = integers(data.get("prompt_token_ids"), f"{where}.prompt_token_ids")
    made = integers(data.get("output_ids", data.get("token_ids")), f"{where}.output_ids")
    prompt = _count(_field(data, "meta_info", "prompt_tokens"))
    if prompt is None and token is not None:
        prompt = len(token)
    return Response(at, decoder.array(_field(data, *place), at),
                    None if token is None or made is None else token + made, prompt)


def _choices(data: dict[str, Any], where: str, decoder: Decoder) -> Iterator[Response]:
    """Answers of a vLLM response; the prompt's rows come with each or once for all."""
    for index, choice in enumerate(data["choices"]):
        here = f"{where}.choices[{index}]"
        place = next((place for place in PLACES if _field(choice, *place) is not None), PLACES[0])
        at = f"{here}.{'.'.join(place)}"
        ids = decoder.array(_field(choice, *place), at)
        told = _field(choice, "prompt_token_ids") or data.get("prompt_token_ids")
        token = integers(told, f"{here}.prompt_token_ids")
        made = integers(_field(choice, "token_ids"), f"{here}.token_ids")
        prompt = _count(_field(data, "usage", "prompt_tokens")) if token is None else len(token)
        if data.get("prompt_routed_experts") is not None:
            before = decoder.array(data["prompt_routed_experts"],
                                   f"{where}.prompt_routed_experts")
            if before.ndim != 3 or before.shape[1:] != ids.shape[1:]:
                raise TraceError(f"{where}.prompt_routed_experts: must be [token, "
                                 f"{', '.join(map(str, ids.shape[1:]))}] as {at}, not of shape "
                                 f"{list(before.shape)}")
            prompt, ids = len(before), np.concatenate([before, ids])
        yield Response(at, ids, None if token is None or made is None else token + made, prompt)


def responses(data: Any, where: str, layers: int | None = None,
              top_k: int | None = None) -> list[Response]:
    """Sequences of JSON data: a response, a list of them, or an array as nested lists."""
    decoder = Decoder(layers, top_k)
    if isinstance(data, list) and data and all(isinstance(entry, dict) for entry in data):
        return [part for index, entry in enumerate(data)
                for part in responses(entry, f"{where}[{index}]", layers, top_k)]
    if isinstance(data, list):
        return [Response(where, decoder.array(data, where))]
    for place in PLACES:
        if _field(data, *place) is not None:
            return [_single(data, place, where, decoder)]
    if isinstance(_field(data, "choices"), list) and data["choices"]:
        return list(_choices(data, where, decoder))
    raise TraceError(f"{where}: there is no routed_experts, neither in meta_info, sglext nor "
                     "choices")
