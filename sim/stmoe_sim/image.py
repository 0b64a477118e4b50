"""Expert memory: the experts of a run, and the image that the simulated memory loads."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from stmoe.config import ConfigError, Geometry
from stmoe_golden.compute.blob import pack
from stmoe_golden.compute.expert import Expert
from stmoe_golden.model.quantised import QuantisedModel

__all__ = ["Experts", "ModelExperts", "write_image"]


class Experts:
    """Random experts of a run-time shape, each from (seed, layer, expert) alone.

    ``key`` tells experts of one geometry apart.
    """

    def __init__(self, geometry: Geometry, seed: int):
        self.geometry, self.config, self.seed = geometry, geometry.config, seed
        self.key = str(seed)
        self.get = lru_cache(maxsize=None)(self._make)

    def _make(self, layer: int, expert: int) -> Expert:
        rng = np.random.default_rng((self.seed, layer, expert))
        return Expert.random(rng, self.config.model.d_model, self.geometry.ff,
                             self.config.weight_group)


class ModelExperts(Experts):
    """The experts of a language model, whose shape the geometry must have."""

    def __init__(self, geometry: Geometry, model: QuantisedModel):
        super().__init__(geometry, 0)
        self.model = model.fit(self.config.weight_group)
        want, have = model.shape.moe(), geometry.config.model
        for field in ("layers", "experts", "d_model", "d_ff"):
            value = geometry.ff if field == "d_ff" else getattr(have, field)
            if value != getattr(want, field):
                raise ConfigError(f"model.{field}", value,
                                  f"{getattr(want, field)}, as the language model has")
        state = hashlib.sha256()
        for name, tensor in self.model.tensors().items():
            state.update(name.encode() + tensor.tobytes())
        self.key = state.hexdigest()

    def _make(self, layer: int, expert: int) -> Expert:
        return self.model.expert(layer, expert)


def write_image(experts: Experts, cache: Path) -> Path:
    """The memory image of all experts, layer by layer, bytes within a bus beat reversed.

    ``$fread`` fills words from their most significant byte; the reversal makes the byte at the
    lowest address the least significant. Cached under ``cache/images``.
    """
    g = experts.geometry
    model = g.config.model
    key = hashlib.sha256(f"{g.config.hash} {g.ff} {experts.key} 2".encode()).hexdigest()[:16]
    path = cache / "images" / f"{key}.bin"
    if path.exists() and path.stat().st_size == g.memory_bytes:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    with scratch.open("wb") as file:
        for layer in range(model.layers):
            for expert in range(model.expert_ids):
                blob = pack(experts.get(layer, expert), g).ljust(g.stride, b"\0")
                beats = np.frombuffer(blob, np.uint8).reshape(-1, g.axi_bytes)
                file.write(beats[:, ::-1].tobytes())
    scratch.rename(path)
    return path
