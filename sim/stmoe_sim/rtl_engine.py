"""The MoE layers of a language model on the simulated netlist, each held against golden."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stmoe.config import ConfigError, Geometry
from stmoe.interfaces import Phase
from stmoe_golden.model.activations import dequantise_output, quantise_input
from stmoe_golden.model.engine import GoldenEngine, Routing
from stmoe_golden.model.projections import QuantisedProjections
from stmoe_golden.model.quantised import QuantisedModel
from stmoe_golden.predict.unit import PredictionUnit
from stmoe_golden.router.router import ahead_logits

from .dense import RtlProjections
from .live import LiveMachine
from .policies import Policy
from .steps import Step
from .verify import (
    Verdict,
    check_counters,
    check_first_beats,
    check_learned,
    check_predictions_and_events,
)

__all__ = ["RtlEngine"]


class RtlEngine:
    """A :class:`stmoe_golden.model.engine.TokensEngine` whose layers the netlist computes.

    Golden computes them as well: every result is compared as it comes, every prediction, decision
    and counter in :meth:`finish`. What is returned is always the netlist's.

    Parameters
    ----------
    machine: opened with ``policy`` and with the router's weights, if routing is "hardware".
    routing: who routes, the on-chip router or the host in floating point.
    attention: cycles of the attention phase before a layer, of the tokens in the context.
    unit: golden, in the state that the machine's rows were loaded from, None = off.
    projections: those of attention, which the netlist computes too; ``attention`` is then between
        the others and "wo". None: the host does.

    Attributes
    ----------
    projections: for :class:`~stmoe_golden.model.transformer.Transformer`, None as above.
    max_tokens: most that begin together. tokens: tokens begun. verdict: what was compared so far.
    """

    def __init__(self, machine: LiveMachine, model: QuantisedModel, *, policy: Policy,
                 unit: PredictionUnit | None, attention: Callable[[int], int],
                 routing: Routing = "hardware", projections: QuantisedProjections | None = None):
        self.machine, self.model, self.policy, self.routing = machine, model, policy, routing
        self.max_tokens = machine.geometry.config.max_tokens
        self.golden = GoldenEngine(model, routing, self.max_tokens)
        self.played: list[Step] = []
        self.unit, self.attention = unit, attention
        self.verdict = Verdict()
        self.tokens = self.context = 0
        self.first: list[bool] = []
        self.identities: list[int] = []
        self.routes: list[list[list[int]]] = []
        self.ahead: list[np.ndarray] = []  # int32 [layer, expert] per token, the next layer's
        self.projections = None if projections is None else RtlProjections(
            machine, projections, self.verdict, attention, lambda: self.context)
        config = machine.geometry.config
        if routing == "hardware" and config.router_layers != model.shape.layers:
            raise ConfigError("router_layers", config.router_layers,
                              f"{model.shape.layers}, every layer, to route on chip")

    def begin_token(self, token_id: int, first: bool) -> None:
        self._begin([token_id], 0 if first else self.context, Phase.DECODE)

    def begin_tokens(self, tokens: Sequence[int], start: int, *, drafted: bool) -> None:
        self._begin(tokens, start, Phase.VERIFY if drafted else Phase.PREFILL)

    def _begin(self, tokens: Sequence[int], start: int, phase: Phase) -> None:
        first = start == 0
        self.golden.begin_tokens(tokens, start, drafted=phase == Phase.VERIFY)
        self.context = start + len(tokens)
        for number, token in enumerate(tokens):
            self.first.append(first and number == 0)
            self.identities.append(token)
            self.routes.append([])
            self.ahead.append(
                np.zeros((self.model.shape.layers, self.model.shape.experts), np.int32))
        self.played.append(Step(self.tokens, self.tokens + len(tokens), phase))
        self.tokens += len(tokens)
        self.machine.token(tokens[-1], first)

    def layer(self, layer: int, x: np.ndarray) -> np.ndarray:
        return self.layers(layer, x[None])[0]

    def layers(self, layer: int, x: np.ndarray) -> np.ndarray:
        q = quantise_input(x, self.model.activation_scale[layer])
        start, stop, phase = self.played[-1]
        records, wanted = [], []
        for row in x:
            self.golden.layer(layer, row)
            records.append(self.golden.records[-1])
            wanted.append(self.golden.result)
        order: dict[str, Any] = {"experts": [record.experts for record in records],
                                 "gates": np.array([record.gates for record in records])}
        if self.routing == "hardware":
            order = {"scale": self.model.router_registers(layer)}
            if self.policy.lookahead and layer + 1 < self.model.shape.layers:
                order["scale_next"] = self.model.router_registers(layer + 1)
                self.ahead[-1][layer] = ahead_logits(self.model.router_int8[layer + 1], q[-1],
                                                     *order["scale_next"])
        delay = self.attention(self.context) if self.projections is None else 0
        result = self.machine.layer(layer, q, phase=phase, delay=delay, **order)
        for token, record in zip(range(start, stop), records, strict=True):
            self.routes[token].append(record.experts)
        self.verdict.count("results", len(x))
        for row, at in np.argwhere(result != np.array(wanted))[:1]:
            self.verdict.differ(f"token {start + row}, layer {layer}, channel {at}: result "
                                f"{result[row, at]}, golden {wanted[row][at]}")
        return dequantise_output(result, float(self.model.output_scale[layer]))

    def finish(self) -> Verdict:
        """Hold predictions, decisions and counters against golden, too; the whole verdict.

        Only complete tokens may have been computed.
        """
        outcome = self.machine.settle()
        geometry: Geometry = self.machine.geometry
        golden = check_predictions_and_events(
            self.verdict, geometry, self.policy, self.machine.log,
            np.array(self.routes), np.array(self.identities), np.array(self.first), self.unit,
            np.array(self.ahead) if self.policy.lookahead and self.routing == "hardware" else None,
            self.played, self.projections.played if self.projections else ())
        check_counters(self.verdict, outcome["counters_all"], golden["counters"])
        check_first_beats(self.verdict, outcome["counters_all"], golden["events"])
        check_learned(self.verdict, geometry, self.machine.home, self.unit)
        if outcome["violations"]:
            self.verdict.differ(f"protocol checkers: violations 0x{outcome['violations']:x}")
        if outcome["errors"]["error"]:
            self.verdict.differ(f"error register: {outcome['errors']}")
        return self.verdict
