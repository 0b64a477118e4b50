"""Ways to bring experts near, ours and others', each as a policy of the timing model."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from stmoe.config import ConfigError
from stmoe_golden.predict.linear import Linear
from stmoe_golden.predict.predictor import NEVER
from stmoe_golden.predict.quality import profile_on, stretch_of
from stmoe_golden.predict.registry import make
from stmoe_golden.predict.unit import learned, shape_of
from stmoe_golden.timing.model import Settings
from stmoe_golden.timing.stimulus import Rounds, Stimulus, rounds_at_token, rounds_by_score
from stmoe_golden.trace import Window

from .regimes import Scene

__all__ = ["RIVALS", "Case", "Rival", "parse_rivals"]

DROP = 0.1  # Adap-Gating: share of a token's router weight below which an expert is left out
WIDER = 1.5  # Fate: experts fetched, in multiples of top-k
SPARE = 2  # APEX: experts beyond top-k
CUTOFF = 0.5  # SP-MoE: share of the layers that drafting fetches for
EVERY = -1 << 29  # a threshold that all scores reach
OFFLINE = ":offline"


@dataclass
class Case:
    """A trace on a machine; scores of predictors are worked out once."""

    scene: Scene
    window: Window
    _scores: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)

    @cached_property
    def routing(self) -> np.ndarray:
        """int64 [token, layer, rank], warm-up included."""
        return self.window.trace.experts[self.window.replayed].astype(np.int64)

    @cached_property
    def first(self) -> np.ndarray:
        """bool [token], first of its sequence."""
        replayed = self.window.replayed
        starts = {*self.window.trace.offsets.tolist(), replayed.start}
        return np.array([t in starts for t in range(replayed.start, replayed.stop)])

    @cached_property
    def popularity(self) -> np.ndarray:
        """int64 [layer, expert], uses by the tokens that are profiled."""
        model, (start, stop) = self.scene.config.model, self.window.profile
        found = np.zeros((model.layers, model.experts), np.int64)
        for layer in range(model.layers):
            used = self.window.trace.experts[start:stop, layer].ravel()
            found[layer] = np.bincount(used[used >= 0], minlength=model.experts)
        return found

    def scores(self, predictor: str) -> tuple[np.ndarray, int]:
        """int32 [token, layer, expert], profiled, and the predictor's own threshold. Without other
        options than ``depth``, ``linear`` has the configuration's.

        ``linear:offline``: weights stay as they have been profiled.
        """
        if predictor not in self._scores:
            name = predictor.removesuffix(OFFLINE)
            own = re.fullmatch(r"linear(?::depth=(\d+))?", name)
            unit = (learned(self.scene.config, lookahead=False, depth=int(own[1] or 1)) if own
                    else make(name, shape_of(self.scene.config)))
            trace, replayed = self.window.trace, self.window.replayed
            profile_on(unit, self.window)
            if name != predictor:
                assert isinstance(unit, Linear)
                unit.shift = unit.lexical_shift = 24  # of errors of 10 bits nothing is left
            found = unit.run(replace(stretch_of(trace, replayed.start, replayed.stop),
                                     first=self.first))
            self._scores[predictor] = found, unit.threshold
        return self._scores[predictor]

    def rounds(self, predictor: str, *, limit: int = 0, threshold: int | None = None,
               layer_0: bool = True, depth: int = 1) -> Rounds:
        """Candidates of a predictor: those at its threshold, or at another one; the ``limit`` best;
        of ``depth`` layers, for which it has an option of that name. Without ``layer_0`` the
        token's first layer is not predicted."""
        found, own = self.scores(predictor)
        if not layer_0:
            found = found.copy()
            found[:, 0] = NEVER
        deeper = [self.scores(f"{predictor}:depth={deep}")[0] for deep in range(2, depth + 1)]
        return rounds_by_score(self.scene.config, [found, *deeper],
                               own if threshold is None else threshold,
                               limit or self.scene.config.model.experts)

    def ahead(self, cutoff: int) -> Rounds:
        """The top-k of the first ``cutoff`` layers, named as the token is."""
        scores, _ = self.scores("linear:depth=64")
        config = self.scene.config
        return rounds_at_token(config, scores, EVERY, config.model.top_k, cutoff)

    def stimulus(self, rounds: Rounds | None = None, active: np.ndarray | None = None) -> Stimulus:
        """What the model is fed with."""
        token = self.window.trace.token[self.window.replayed]
        return Stimulus(self.routing, token, self.first, rounds, active, self.popularity)


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A way to bring experts near. ``source``: who proposed it. ``output``: what becomes of the
    model's output. ``settings``: of the machine. ``rounds``: candidates, None = none. ``active``:
    experts computed. ``needs``: what a trace must have, "weights", "lookahead" or "".
    """

    name: str
    source: str
    summary: str
    output: str = "the same"
    settings: dict[str, Any] = field(default_factory=dict)
    rounds: Callable[[Case], Rounds] | None = None
    active: Callable[[Case], np.ndarray] | None = None
    needs: str = ""

    def possible(self, case: Case) -> bool:
        """Whether the trace has what it takes."""
        return not self.needs or getattr(case.window.trace, self.needs) is not None

    def at(self, case: Case) -> tuple[Settings, Stimulus]:
        """What the model is run with."""
        rounds = self.rounds(case) if self.rounds else None
        chosen = {"attention": case.scene.attention, "prefetch": rounds is not None,
                  "predictor": None if rounds is None else "linear"} | self.settings
        return (Settings(**chosen),
                case.stimulus(rounds, self.active(case) if self.active else None))


def _gated(case: Case) -> np.ndarray:
    """Experts whose router weight is at least :data:`DROP` of the token's, one in any case."""
    weights = case.window.trace.weights
    assert weights is not None
    share = weights[case.window.replayed]
    share = share / share.sum(2, keepdims=True)
    return np.maximum(1, (share >= DROP).sum(2))


def _top(case: Case, more: float) -> int:
    return round(case.scene.config.model.top_k * more)


OURS: dict[str, object] = {"retention": "ewma", "worth": True}
DEPTH = 2  # layers of ours


RIVALS = {rival.name: rival for rival in (
    Rival(name="on-demand", source="-", summary="load every expert when it is routed, keep none",
          settings={"retain": False}),
    Rival(name="on-demand-whole", source="EPS-MoE (Qian et al., arXiv 2410.12247), turned off",
          summary="the same; an expert is computed once all of it is there",
          settings={"retain": False, "chase": False}),
    Rival(name="lru", source="-", summary="keep the least recently used"),
    Rival(name="lfu", source="-", summary="keep the most used so far",
          settings={"retention": "lfu"}),
    Rival(name="static", source="-", summary="keep the most popular of the profiled tokens",
          settings={"retention": "static"}),
    Rival(name="replication", source="arXiv 2605.11537",
          summary="static: a copy adds nothing where every PE reads every slot",
          output="the same here; another as published",
          settings={"retention": "static"}),
    Rival(name="ewma", source="this project", summary="keep what is expected to be used soonest",
          settings={"retention": "ewma"}),
    Rival(name="previous-token", source="-", summary="lru; fetch what the previous token used",
          rounds=lambda case: case.rounds("previous-token")),
    Rival(name="cct", source="Zhao et al., arXiv 2606.15453, its ablation",
          summary="lru; CCT alone", rounds=lambda case: case.rounds("cct")),
    Rival(name="st-moe-published", source="Zhao et al., arXiv 2606.15453",
          summary="lru; CCT + HT, all at a score of 2",
          rounds=lambda case: case.rounds("table", threshold=2)),
    Rival(name="pre-gated", source="Hwang et al., ISCA 2024",
          summary="lru; the next layer's experts are known a layer early, but for layer 0",
          output="another: gates are trained anew, on the input of the layer before",
          rounds=lambda case: case.rounds("oracle", layer_0=False)),
    Rival(name="adap-gating", source="Li et al., EMNLP 2023",
          summary=f"lru; experts of less than {DROP:g} of the router's weight are left out",
          output="another: terms of the sum are left out", active=_gated, needs="weights"),
    Rival(name="moe-infinity", source="Xue et al., arXiv 2401.14361",
          summary="lfu; fetch by the most similar past sequence",
          settings={"retention": "lfu"}, rounds=lambda case: case.rounds("activation-matrix")),
    Rival(name="duoserve", source="Zhang et al., arXiv 2509.07379, its decode phase",
          summary="lru; the top-k of a predictor per layer, trained offline",
          rounds=lambda case: case.rounds(f"linear{OFFLINE}", threshold=EVERY,
                                          limit=case.scene.config.model.top_k)),
    Rival(name="sp-moe", source="Chen et al., arXiv 2510.10302, a window of one token",
          summary=f"lru; the top-k of the first {CUTOFF:.0%} of the layers, as drafting names them",
          rounds=lambda case: case.ahead(round(CUTOFF * case.scene.config.model.layers))),
    Rival(name="fate", source="Fang et al., arXiv 2502.12224",
          summary=f"lru; the next layer's gate on this layer's input, {WIDER:g} k experts",
          rounds=lambda case: case.rounds("lookahead", limit=_top(case, WIDER), threshold=EVERY),
          needs="lookahead"),
    Rival(name="apex", source="arXiv 2608.11688",
          summary=f"lru; top-(k + {SPARE}) by confidence of our predictor, not its trained one",
          rounds=lambda case: case.rounds(
              "linear", limit=case.scene.config.model.top_k + SPARE, threshold=EVERY)),
    Rival(name="linear", source="this project", summary="lru; the learned predictor",
          rounds=lambda case: case.rounds("linear")),
    Rival(name="ours", source="this project",
          summary=f"ewma; the learned predictor, {DEPTH} layers deep, what is worth it",
          settings=OURS, rounds=lambda case: case.rounds("linear", depth=DEPTH)),
    Rival(name="ours-whole", source="EPS-MoE, turned off",
          summary="ours; an expert is computed once all of it is there",
          settings=OURS | {"chase": False},
          rounds=lambda case: case.rounds("linear", depth=DEPTH)),
    Rival(name="oracle", source="-", summary="ewma; the next layer's experts are known",
          settings={"retention": "ewma"}, rounds=lambda case: case.rounds("oracle")),
    Rival(name="clairvoyant", source="-",
          summary="the next layer's experts are known, and when each is used again",
          settings={"retention": "clairvoyant"}, rounds=lambda case: case.rounds("oracle")))}


def parse_rivals(text: str) -> list[Rival]:
    """Rivals of a comma-separated list, "all" for every one."""
    if text == "all":
        return list(RIVALS.values())
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RIVALS:
            raise ConfigError("rival", name, f"one of all, {', '.join(RIVALS)}")
    if len(set(names)) != len(names):
        raise ConfigError("rival", text, "different ones")
    return [RIVALS[name] for name in names]
