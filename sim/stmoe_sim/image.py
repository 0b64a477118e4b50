"""Expert memory: the experts of a run, and the image that the simulated memory loads."""

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from stmoe.config import ConfigError, Geometry
from stmoe_golden.compute.blob import pack, pack_matrix
from stmoe_golden.compute.expert import Expert
from stmoe_golden.compute.matrix import Matrix, parts_of
from stmoe_golden.model.projections import QuantisedProjections
from stmoe_golden.model.quantised import QuantisedModel
from stmoe_golden.model.transformer import PROJECTIONS

__all__ = ["Experts", "ModelExperts", "layer_blobs", "write_image"]


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

    def dense(self, layer: int) -> list[Matrix]:
        """Parts of matrices behind a layer's experts, the first ones; the rest of what there is
        room for is zeros."""
        return []


class ModelExperts(Experts):
    """The experts of a language model, whose shape the geometry must have; behind them the parts of
    its ``projections``, if they are given, one projection after the other."""

    def __init__(self, geometry: Geometry, model: QuantisedModel,
                 projections: QuantisedProjections | None = None):
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
        self.projections = projections
        if projections is not None:
            need = len(PROJECTIONS) * geometry.matrix_parts if self.config.dense_blobs else 1
            if self.config.dense_blobs < need:
                raise ConfigError("dense_blobs", self.config.dense_blobs,
                                  f"at least {need} for the projections of attention")
            for name, tensor in projections.tensors().items():
                state.update(name.encode() + tensor.tobytes())
        self.key = state.hexdigest()

    def dense(self, layer: int) -> list[Matrix]:
        if self.projections is None:
            return []
        return [part for name in PROJECTIONS
                for part in parts_of(self.projections.matrix(layer, name), self.geometry)]

    def _make(self, layer: int, expert: int) -> Expert:
        return self.model.expert(layer, expert)


def layer_blobs(experts: Experts, layer: int) -> Iterator[bytes]:
    """Blobs as they lie in expert memory, a stride apart: experts, then dense weights."""
    g = experts.geometry
    for expert in range(g.config.model.expert_ids):
        yield pack(experts.get(layer, expert), g)
    parts = experts.dense(layer)
    for blob in range(g.config.dense_blobs):
        yield pack_matrix(parts[blob], g) if blob < len(parts) else b""


def write_image(experts: Experts, cache: Path) -> Path:
    """The memory image of all experts, layer by layer, bytes within a bus beat reversed.

    ``$fread`` fills words from their most significant byte; the reversal makes the byte at the
    lowest address the least significant. Cached under ``cache/images``.
    """
    g = experts.geometry
    key = hashlib.sha256(f"{g.config.hash} {g.ff} {experts.key} 2".encode()).hexdigest()[:16]
    path = cache / "images" / f"{key}.bin"
    if path.exists() and path.stat().st_size == g.memory_bytes:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    with scratch.open("wb") as file:
        for layer in range(g.config.model.layers):
            for blob in layer_blobs(experts, layer):
                whole = np.frombuffer(blob.ljust(g.stride, b"\0"), np.uint8)
                file.write(whole.reshape(-1, g.axi_bytes)[:, ::-1].tobytes())
    scratch.rename(path)
    return path
