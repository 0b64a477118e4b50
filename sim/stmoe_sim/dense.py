"""The attention projections of a language model on the netlist, each held against golden."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import AcceleratorConfig, Geometry
from stmoe_golden.model.projections import (
    BatchProjections,
    QuantisedProjections,
    calibration,
    quantise_projections,
)
from stmoe_golden.model.quantised import QuantisedModel
from stmoe_golden.model.transformer import PROJECTIONS

from .kept import keep
from .live import LiveMachine
from .steps import DenseStep
from .verify import Verdict

__all__ = ["RtlProjections", "fit_dense", "projections_of"]


def fit_dense(config: AcceleratorConfig) -> AcceleratorConfig:
    """``config`` with room for the projections behind every layer's experts; :class:`ConfigError`
    if they cannot be cut."""
    parts = Geometry(config.replace(dense_blobs=1)).matrix_parts
    return config.replace(dense_blobs=max(config.dense_blobs, len(PROJECTIONS) * parts))


def projections_of(model: QuantisedModel, cache: Path) -> QuantisedProjections:
    """The projections of ``model`` in integers, scaled on the tokens of the packaged trace; kept
    under ``cache/projections``, as that takes a few seconds."""
    tokens = calibration(model)
    state = hashlib.sha256(b"1" + tokens.tobytes())
    for name, tensor in (model.backbone.tensors() | model.tensors()).items():
        state.update(name.encode() + tensor.tobytes())
    home = cache / "projections" / state.hexdigest()[:16]

    def make(into: Path) -> None:
        tensors: dict[str, Any] = quantise_projections(model, tokens).tensors()
        np.savez(into / "tensors.npz", **tensors)

    keep(home, make)
    with np.load(home / "tensors.npz") as data:
        return QuantisedProjections(model.shape, **dict(data))


class RtlProjections:
    """:class:`stmoe_golden.model.projections.Projections` that the netlist computes.

    What is returned is the netlist's; ``verdict`` counts what was held against golden, and
    ``played`` has the commands.

    Parameters
    ----------
    machine: with the projections in its memory, as :class:`~stmoe_sim.image.ModelExperts` lays
        them. attention: cycles of the host's attention, of the tokens in the context: the KV cache.
    context: tokens in the context of the present step.
    """

    def __init__(self, machine: LiveMachine, projections: QuantisedProjections, verdict: Verdict,
                 attention: Callable[[int], int], context: Callable[[], int]):
        g = machine.geometry
        self.machine, self.projections, self.verdict = machine, projections, verdict
        self.golden = BatchProjections(projections, g.matrix_columns)
        self.parts, self.attention, self.context = g.matrix_parts, attention, context
        self.played: list[DenseStep] = []

    def project(self, layer: int, name: str, x: np.ndarray) -> np.ndarray:
        q = self.projections.quantise(layer, name, x)
        step = DenseStep(layer, PROJECTIONS.index(name) * self.parts, self.parts, len(q))
        self.played.append(step)
        delay = self.attention(self.context()) if name == "wo" else 0
        result, want = self.machine.dense(step, q, delay), self.golden.integers(layer, name, q)
        self.verdict.count("projections", len(q))
        for row, at in np.argwhere(result != want)[:1]:
            self.verdict.differ(f"layer {layer}, {name}, row {row}, channel {at}: result "
                                f"{result[row, at]}, golden {want[row, at]}")
        return self.projections.dequantise(layer, name, result)
