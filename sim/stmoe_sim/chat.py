"""A text continued by the language model on an engine, and what its tokens cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import AcceleratorConfig, Geometry
from stmoe_golden.energy import Technology
from stmoe_golden.metrics import usage
from stmoe_golden.model.engine import Routing
from stmoe_golden.model.generation import Generation
from stmoe_golden.model.projections import QuantisedProjections
from stmoe_golden.model.quantised import QuantisedModel
from stmoe_golden.model.tokenizer import Stream, Tokenizer
from stmoe_golden.predict.quality import stretch_of
from stmoe_golden.predict.unit import PredictionUnit
from stmoe_golden.router.router import ahead_logits
from stmoe_golden.trace import Trace

from .attention import attention_cycles, cache_cycles
from .host.engine import BoardEngine
from .image import ModelExperts, write_image
from .job import prediction_unit
from .live import LiveMachine
from .memory import Memory
from .policies import Policy
from .rtl_engine import RtlEngine
from .verilator import build

__all__ = ["Host", "Meter", "converse", "fit_model"]

Update = Callable[[str, dict[str, Any]], None]


def fit_model(config: AcceleratorConfig, model: QuantisedModel) -> AcceleratorConfig:
    """``config`` with the shape of ``model``, and a router for all its layers if it has one."""
    shape = model.shape.moe()
    return config.replace(model=shape, router_layers=shape.layers if config.router_layers else 0,
                          max_d_ff=max(config.max_d_ff, shape.d_ff) if config.max_d_ff else 0)


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine that a conversation runs on.

    Parameters
    ----------
    config: as returned by :func:`fit_model`.
    profile: trace of the model that the predictors are profiled on, or None.
    projections: those of attention, if the netlist computes them; ``config`` has room for them.
    """

    config: AcceleratorConfig
    model: QuantisedModel
    policy: Policy
    memory: Memory
    routing: Routing
    profile: Trace | None
    seed: int
    cache: Path
    projections: QuantisedProjections | None = None

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.config)

    def unit(self) -> PredictionUnit | None:
        """Golden's prediction unit, profiled."""
        unit = prediction_unit(self.geometry, self.policy)
        if unit is not None and self.profile is not None:
            start, stop = self.profile.offsets[[0, -1]].tolist()
            stretch = stretch_of(self.profile, start, stop)
            hidden = self.profile.hidden
            if self.policy.lookahead and hidden is not None and hidden.dtype == np.int8:
                stretch = replace(stretch, ahead=self._ahead(hidden[start:stop]))
            unit.profile(stretch)
        return unit

    def _ahead(self, hidden: np.ndarray) -> np.ndarray:
        """Look-ahead logits int32 [token, layer, expert] of the router's on int8 ``hidden``."""
        model = self.model
        found = np.zeros((*hidden.shape[:2], model.shape.experts), np.int32)
        for layer in range(1, model.shape.layers):
            for row, x in zip(found[:, layer - 1], hidden[:, layer - 1], strict=True):
                row[:] = ahead_logits(model.router_int8[layer], x, *model.router_registers(layer))
        return found

    def open(self, progress: Callable[[str], None] = lambda stage: None) -> RtlEngine:
        """Build what is not in the cache, start the simulator. Close ``machine`` in the end."""
        g = self.geometry
        progress("expert image")
        image = write_image(ModelExperts(g, self.model, self.projections), self.cache)
        progress("netlist and simulator")
        simulator = build(self.config, memory_words=g.total_bytes // g.axi_bytes,
                          cache=self.cache)
        progress("starting")
        on_chip = self.routing == "hardware"
        router = self.model.router_int8 if on_chip else np.zeros((0, 1, 1), np.int8)
        machine = LiveMachine(geometry=g, policy=self.policy, unit=self.unit(),
                              router=router, memory=self.memory, simulator=simulator, image=image,
                              seed=self.seed)
        bandwidth = self.memory.bytes_per_cycle(self.config)
        phase = attention_cycles if self.projections is None else cache_cycles
        return RtlEngine(machine, self.model, policy=self.policy, unit=self.unit(),
                         routing=self.routing, projections=self.projections,
                         attention=lambda context: phase(self.config, bandwidth, context))


class Meter:
    """Cost of the decode tokens so far: the counters' increments since the prompt."""

    def __init__(self, engine: RtlEngine | BoardEngine, technology: Technology):
        self.engine, self.technology = engine, technology
        self.start = engine.machine.counters()
        self.base: dict[str, int] | None = None
        self.tokens = 0

    def read(self, memory: str) -> dict[str, Any]:
        """Called after the prompt and after every token: empty at first, then :func:`usage`."""
        now = self.engine.machine.counters()
        if self.base is None:
            self.base = now
            return {}
        self.tokens += 1
        spent = {name: now[name] - self.base[name] for name in now}
        cost = usage(self.engine.machine.geometry, spent, self.tokens, self.technology, memory)
        return cost | {"mac_utilisation": self._utilisation(spent)}

    def prompt(self, tokens: int) -> dict[str, float]:
        """What the prompt's ``tokens`` took, once they are computed: cycles of each, and the share
        of all multipliers' cycles that were used."""
        if self.base is None:
            return {}
        spent = {name: self.base[name] - self.start[name] for name in self.start}
        return {"prompt_cycles_per_token": spent["cycles_total"] / tokens,
                "prompt_mac_utilisation": self._utilisation(spent)}

    def _utilisation(self, spent: dict[str, int]) -> float:
        pes = self.engine.machine.geometry.config.pes
        return spent["mac_words"] / pes / max(1, spent["cycles_total"])


def converse(generation: Generation, tokenizer: Tokenizer, *, update: Update,
             cost: Callable[[], dict[str, Any]] = dict,
             stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Generate until the end, or until ``stop()`` between two tokens.

    Returns ``text`` (what was added to the prompt), ``tokens``, ``reason`` and
    ``seconds_per_token`` (wall time of a decode token, None before there was one) with the last
    ``cost()``. ``update(text, figures)`` is called after every token.
    """
    stream = Stream(tokenizer)
    text, figures = "", dict[str, Any]()
    started = 0.0
    reason = ""
    for token in generation:
        text += stream.push(token)
        spent = cost()
        steps = len(generation.tokens) - 1
        if steps == 0:
            started = time.perf_counter()
        seconds = (time.perf_counter() - started) / steps if steps else None
        figures = spent | {"tokens": len(generation.tokens), "seconds_per_token": seconds}
        update(text, figures)
        if stop():
            reason = "interrupted"
            break
    text += stream.flush()
    return {"seconds_per_token": None} | figures | {
        "text": text, "tokens": len(generation.tokens), "reason": reason or generation.reason}
