"""From checkpoint and token files to the shipped file."""

import json
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .engine import FloatEngine
from .error import ModelError, require
from .evaluation import spread
from .perplexity import score
from .quantise import quantise
from .quantised import QuantisedModel
from .transformer import Transformer
from .weights import load_checkpoint

__all__ = ["CALIBRATION_TOKENS", "export", "load_tokens"]

CALIBRATION_TOKENS = 32768
"""Per domain. Half as many miss part of the long tail of hidden values."""


def load_tokens(path: str | Path) -> dict[str, np.ndarray]:
    """Token ids by domain of an ``.npz`` of uint16 arrays."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (TypeError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{path}: not a readable .npz of tokens: {error}") from None
    for name, value in found.items():
        require(value.ndim == 1 and value.dtype == np.uint16, str(path),
                f"{name!r} must be uint16 [n], not {value.dtype}{list(value.shape)}")
    return found


def export(checkpoint: str | Path, calibration: str | Path, heldout: str | Path | None = None,
           data: str | Path | None = None, size: int = CALIBRATION_TOKENS) -> QuantisedModel:
    """Quantise a checkpoint; a sample of ``heldout`` and the facts about the ``data`` go with it.

    Of each domain of ``calibration`` at most ``size`` tokens are used, in blocks spread over it.
    ``facts`` of the result: ``training`` from the checkpoint, ``sources`` and their licences from
    the JSON file ``data``, ``sample``: perplexity of the float checkpoint on the sample.
    """
    model = load_checkpoint(checkpoint)
    result = quantise(model, {domain: spread(tokens, size)
                              for domain, tokens in load_tokens(calibration).items()})
    facts: dict[str, Any] = {"training": model.training}
    if data is not None:
        facts["sources"] = json.loads(Path(data).read_text(encoding="utf-8"))["sources"]
    samples = {} if heldout is None else {
        domain: spread(tokens) for domain, tokens in load_tokens(heldout).items()}
    transformer, engine = Transformer(model.backbone), FloatEngine(model)
    facts["sample"] = {}
    for domain, tokens in samples.items():
        found = score(transformer, engine, tokens)
        facts["sample"][domain] = {"perplexity": found.perplexity, "tokens": found.tokens}
    return replace(result, heldout=samples, facts=facts)
