"""Hooks on the routers of a Hugging Face model: what each layer really chose."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .run import RecordError

__all__ = ["ROUTERS", "Capture", "routers_of"]

ROUTERS = {"qwen2_moe": "gate", "qwen3_moe": "gate", "mixtral": "gate", "olmoe": "gate",
           "deepseek_v2": "gate", "deepseek_v3": "gate", "gpt_oss": "router"}
"""Name of the router in the MoE block of each supported ``model_type``."""


def routers_of(model: Any) -> list[torch.nn.Module]:
    """Routers of the MoE layers in order; dense layers have none."""
    kind = model.config.model_type
    blocks = [layer.mlp for layer in model.model.layers]
    found = [getattr(block, ROUTERS[kind]) for block in blocks if hasattr(block, "experts")]
    if not found:
        raise RecordError(f"{kind}: the model has no MoE layer, only {len(blocks)} dense ones")
    return found


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _ranked(weights: torch.Tensor, ids: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Ids and weights [token, rank] by falling weight, lower id first among equals."""
    values, experts = _numpy(weights), ids.detach().cpu().numpy()
    order = np.lexsort((experts, -values), axis=-1)
    return np.take_along_axis(experts, order, -1), np.take_along_axis(values, order, -1)


class Capture:
    """Collects routing while a model runs: one call of each router per forward pass.

    Every supported router returns logits [token, expert], and of the chosen experts the weights as
    the experts use them and the ids, both [token, rank]. The look-ahead is the next router itself,
    run on this layer's input; nothing in the model sees it.
    """

    def __init__(self, model: Any, keep: frozenset[str]):
        self.routers = routers_of(model)
        self.kind = model.config.model_type
        self.keep = keep
        self.layers: list[dict[str, np.ndarray]] = []

    def _checked(self, output: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        good = isinstance(output, tuple) and len(output) == 3 and all(
            isinstance(part, torch.Tensor) and part.ndim == 2 for part in output)
        good = good and output[1].shape == output[2].shape and not output[2].is_floating_point()
        if not good:
            raise RecordError(f"{self.kind}: the router must return logits, weights and ids; this "
                              "version of transformers returns something else, see the extra "
                              "'record' for those that work")
        return output

    def _hook(self, layer: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
            logits, weights, ids = self._checked(output)
            hidden = inputs[0].reshape(-1, inputs[0].shape[-1])
            experts, values = _ranked(weights, ids)
            taken = {"experts": experts, "weights": values}
            if "hidden" in self.keep:
                taken["hidden"] = _numpy(hidden)
            if "logits" in self.keep:
                taken["logits"] = _numpy(logits)
            if "lookahead" in self.keep:
                after = self.routers[layer + 1:layer + 2]
                taken["lookahead"] = (_numpy(after[0].forward(hidden)[0]) if after
                                      else np.zeros(logits.shape, np.float32))
            self.layers.append(taken)
        return hook

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Hooks are on the routers inside, and removed whatever happens."""
        handles = [router.register_forward_hook(self._hook(layer))
                   for layer, router in enumerate(self.routers)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def take(self) -> dict[str, np.ndarray]:
        """Arrays [token, layer, ..] of what was heard since the last call."""
        heard, self.layers = self.layers, []
        if len(heard) != len(self.routers):
            raise RecordError(f"{self.kind}: {len(heard)} routers ran in a pass, "
                              f"not {len(self.routers)}")
        return {name: np.stack([layer[name] for layer in heard], axis=1) for name in heard[0]}
