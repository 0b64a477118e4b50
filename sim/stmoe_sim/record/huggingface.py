"""Hugging Face models as recordable ones; needs the extra ``record``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run import RecordError, Step

if TYPE_CHECKING:
    from .hooks import Capture

__all__ = ["HuggingFaceModel", "load_model"]


class _Session:
    def __init__(self, model: "HuggingFaceModel", capture: "Capture"):
        self.model, self.capture = model, capture
        self.cache: Any = None

    def feed(self, ids: Sequence[int]) -> Step:
        import torch

        device = self.model.network.device
        with torch.inference_mode(), self.capture.listen():
            output = self.model.network(
                input_ids=torch.tensor([list(ids)], device=device), use_cache=True,
                cache=self.cache)
        self.cache = output.cache
        return Step(self.capture.take(), int(output.logits[0, -1].argmax()))


class HuggingFaceModel:
    """A causal language model of one of the architectures in :data:`~.hooks.ROUTERS`.

    Parameters
    ----------
    network: the model, set to inference.
    tokenizer: anything with ``encode(text) -> list[int]``, or None where only ids are fed.
    """

    note = "recorded by hooks on the routers"

    def __init__(self, network: Any, tokenizer: Any, name: str):
        from .hooks import routers_of

        self.network, self.tokenizer, self.name = network.eval(), tokenizer, name
        self.context = int(network.config.max_position_embeddings)
        self.experts = int(routers_of(network)[0].weight.shape[0])
        ends = getattr(network.generation_config, "eos_token_id", None)
        self.stops = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text))

    def session(self, keep: frozenset[str]) -> _Session:
        from .hooks import Capture

        return _Session(self, Capture(self.network, keep))


def load_model(name: str) -> HuggingFaceModel:
    """The model in a folder, or of a name that ``transformers`` knows how to get.

    :class:`RecordError` for a missing extra, an unknown architecture or a file that is missing.
    """
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise RecordError(f"--model {name}: recording a Hugging Face model needs the extra "
                          f"'record' (pip install 'stmoe[record]'): {error}") from None
    from .hooks import ROUTERS

    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(name)
        kind = config.get("model_type")
        if kind not in ROUTERS:
            raise RecordError(f"--model {name}: architecture {kind!r} cannot be recorded; those "
                              f"that can are {', '.join(sorted(ROUTERS))}")
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        network = transformers.AutoModelForCausalLM.from_pretrained(name, dtype="auto")
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, RecordError):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise RecordError(f"--model {name}: cannot be loaded: {text}") from None
    return HuggingFaceModel(network, tokenizer, Path(name).name)
