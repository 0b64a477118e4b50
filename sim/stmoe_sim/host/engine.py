"""The MoE layers of a language model on a board, each held against golden."""

from collections.abc import Callable

import numpy as np

from stmoe.config import ConfigError
from stmoe_golden.model.activations import dequantise_output, quantise_input
from stmoe_golden.model.engine import GoldenEngine, Routing
from stmoe_golden.model.quantised import QuantisedModel
from stmoe_golden.predict.unit import PredictionUnit

from ..image import ModelExperts
from ..policies import Policy
from ..verify import Verdict
from .device import Device
from .setup import image, set_up
from .workload import expert_blobs

__all__ = ["BoardEngine"]


class BoardEngine:
    """A :class:`stmoe_golden.model.engine.MoeEngine` whose layers a board computes.

    Golden computes them as well, and every result is compared; what is returned is the board's.
    Its experts are written to the board's memory when it is made.

    Parameters
    ----------
    device: a board with a netlist of the model's shape. policy: of the accelerator.
    unit: golden's unit whose rows the board starts with, None: off.
    routing: who routes, the router on chip or the host in floating point.
    progress: gets the bytes of experts written so far, and of how many.

    Attributes
    ----------
    machine: the device, whose counters and geometry are read. verdict: what was compared so far.
    """

    def __init__(self, device: Device, model: QuantisedModel, *, policy: Policy,
                 unit: PredictionUnit | None, routing: Routing = "hardware",
                 progress: Callable[[int, int], None] = lambda done, of: None):
        self.machine, self.model, self.routing = device, model, routing
        config, geometry = device.config, device.geometry
        if routing == "hardware" and config.router_layers != model.shape.layers:
            raise ConfigError("router_layers", config.router_layers,
                              f"{model.shape.layers}, every layer, to route on chip")
        self.golden, self.verdict, self.tokens = GoldenEngine(model, routing), Verdict(), 0
        set_up(device, policy, unit, model.router_int8 if routing == "hardware" else None)
        content = image(geometry, expert_blobs(ModelExperts(geometry, model)))
        device.write_memory(0, content, lambda done: progress(done, len(content)))

    def begin_token(self, token_id: int, first: bool) -> None:
        self.golden.begin_token(token_id, first)
        self.tokens += 1
        self.machine.token(token_id, first)

    def layer(self, layer: int, x: np.ndarray) -> np.ndarray:
        q = quantise_input(x, self.model.activation_scale[layer])
        self.golden.layer(layer, x)
        record = self.golden.records[-1]
        if self.routing == "hardware":
            mult, shift = self.model.router_registers(layer)
            self.machine.write("router_scale", mult | shift << 16)
            result = self.machine.layer(layer, q)
        else:
            result = self.machine.layer(layer, q, record.experts, record.gates.tolist())
        self.verdict.count("results")
        wrong = np.flatnonzero(result != self.golden.result)
        if wrong.size:
            at = int(wrong[0])
            self.verdict.differ(f"token {self.tokens - 1}, layer {layer}, channel {at}: result "
                                f"{result[at]}, golden {self.golden.result[at]}")
        return dequantise_output(result, float(self.model.output_scale[layer]))

    def finish(self) -> Verdict:
        """The verdict, with what the error registers hold."""
        self.machine.settle()
        if held := self.machine.error():
            self.verdict.differ(held)
        return self.verdict
