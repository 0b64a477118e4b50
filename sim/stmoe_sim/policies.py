"""Policies: run-time settings of one netlist."""

from dataclasses import dataclass, replace

from stmoe.config import AcceleratorConfig, ConfigError

__all__ = ["POLICIES", "POLICY_HELP", "Policy", "parse_policies"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Settings of the control register, and what the policy does.

    ``predictor``: the unit that predicts, "table" or "linear", None = none. ``depth``,
    ``token_depth``: layers that a round of the latter predicts, at a layer and at a token;
    ``guess``: of the next token, after the last layer.
    """

    name: str
    summary: str
    retain: bool = True
    retention: str = "lru"
    prefetch: bool = False
    predictor: str | None = None
    use_cct: bool = False
    use_ht: bool = False
    lookahead: bool = False
    depth: int = 1
    token_depth: int = 1
    guess: int = 0

    @property
    def predict(self) -> bool:
        """Whether the prediction unit runs."""
        return self.predictor is not None

    def check(self, config: AcceleratorConfig) -> None:
        """:class:`ConfigError` unless a netlist of ``config`` has what the policy needs."""
        if self.predictor is not None and self.predictor not in config.predictor.split("+"):
            raise ConfigError("policy", self.name, f"one without the predictor {self.predictor}: "
                                                   f"the configuration has predictor = "
                                                   f"{config.predictor}")
        if self.lookahead and not config.linear.lookahead:
            raise ConfigError("policy", self.name, "one without look-ahead: the configuration has "
                                                   "linear.lookahead = false")


def _table(name: str, summary: str, *, cct: bool = True, ht: bool = True) -> Policy:
    return Policy(name=name, summary=summary, prefetch=True, predictor="table", use_cct=cct,
                  use_ht=ht)


def _learned(name: str, summary: str, *, retention: str = "lru",
             lookahead: bool = False) -> Policy:
    return Policy(name=name, summary=summary, retention=retention, prefetch=True,
                  predictor="linear", lookahead=lookahead)


POLICIES = {policy.name: policy for policy in (
    Policy(name="on-demand", summary="load every expert when it is routed, keep none",
           retain=False),
    Policy(name="lru", summary="keep the least recently used, no prefetch"),
    Policy(name="ewma", summary="keep what is expected to be used soonest, no prefetch",
           retention="ewma"),
    _table("ht", "lru, and prefetch what the previous token used (HT only)", cct=False),
    _table("cct", "lru, and prefetch by cross-layer correlation (CCT only)", ht=False),
    _table("table", "lru, and prefetch by CCT + HT as published"),
    _learned("linear", "lru, and prefetch by the learned predictor"),
    _learned("combined", "lru, and prefetch by the learned predictor with look-ahead",
             lookahead=True),
    _learned("st-moe", "ewma, and prefetch by the learned predictor", retention="ewma"),
    _learned("st-moe-ahead", "ewma, and prefetch by the learned predictor with look-ahead",
             retention="ewma", lookahead=True),
)}


RETENTIONS = ("lru", "ewma", "none")
POLICY_HELP = f"{', '.join(POLICIES)}; NAME:{{{','.join(RETENTIONS)}}} for another retention"


def _policy(text: str) -> Policy:
    name, colon, kept = text.partition(":")
    if name not in POLICIES:
        raise ConfigError("policy", name, f"one of {', '.join(POLICIES)}")
    if not colon:
        return POLICIES[name]
    if kept not in RETENTIONS:
        raise ConfigError("policy", text, f"{name} with retention {', '.join(RETENTIONS)}")
    return replace(POLICIES[name], name=text, retain=kept != "none",
                   retention="lru" if kept == "none" else kept)


def parse_policies(text: str) -> list[Policy]:
    """Policies of a comma-separated list, in order; :class:`ConfigError` names the known ones.

    ``NAME:lru``, ``NAME:ewma``, ``NAME:none`` is policy NAME with another retention.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    policies = [_policy(name) for name in names]
    if not names or len(set(names)) != len(names):
        raise ConfigError("policy", text, "a list of one or more different policies")
    return policies
