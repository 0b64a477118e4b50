"""Policies: run-time settings of one netlist."""

from dataclasses import dataclass, replace

from stmoe.config import AcceleratorConfig, ConfigError
from stmoe.config.linear import LINEAR_THRESHOLD

__all__ = ["POLICIES", "POLICY_HELP", "Policy", "parse_policies"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Settings of the control register, and what the policy does.

    ``predictor``: the unit that predicts, "table" or "linear", None = none. ``depth``,
    ``token_depth``: layers that a round of the latter predicts, at a layer and at a token;
    ``guess``: of the next token, after the last layer. ``threshold``: log-odds from which the
    latter names an expert, in units of 1/16.
    ``worth``: candidates are fetched only if they are worth it.
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
    threshold: int = LINEAR_THRESHOLD
    worth: bool = False

    @property
    def predict(self) -> bool:
        """Whether the prediction unit runs."""
        return self.predictor is not None

    def check(self, config: AcceleratorConfig, route_on_chip: bool) -> None:
        """:class:`ConfigError` unless a netlist of ``config`` has what the policy needs, and the
        run."""
        if self.predictor is not None and self.predictor not in config.predictor.split("+"):
            raise ConfigError("policy", self.name, f"one without the predictor {self.predictor}: "
                                                   f"the configuration has predictor = "
                                                   f"{config.predictor}")
        if self.lookahead and not config.linear.lookahead:
            raise ConfigError("policy", self.name, "one without look-ahead: the configuration has "
                                                   "linear.lookahead = false")
        if self.lookahead and not route_on_chip:
            raise ConfigError("policy", self.name, "one without look-ahead: it takes the on-chip "
                                                   "router's logits, hence --routing hardware")


def _table(name: str, summary: str, *, cct: bool = True, ht: bool = True) -> Policy:
    return Policy(name=name, summary=summary, prefetch=True, predictor="table", use_cct=cct,
                  use_ht=ht)


def _learned(name: str, summary: str, *, lookahead: bool = False) -> Policy:
    return Policy(name=name, summary=summary, prefetch=True, predictor="linear",
                  lookahead=lookahead)


def _whole(name: str, summary: str, *, lookahead: bool = False) -> Policy:
    """Learned predictor, two layers deep while the link is idle, retention, what is worth it."""
    return replace(_learned(name, summary, lookahead=lookahead), retention="ewma", worth=True,
                   depth=2, token_depth=2)


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
    _whole("st-moe", "ewma, and prefetch, two layers deep, by the learned predictor of what is "
                     "worth it"),
    _whole("st-moe-ahead", "st-moe with look-ahead", lookahead=True),
)}


RETENTIONS = ("lru", "ewma", "none")
CHOICES = {"worth": True, "static": False}  # of the candidates that are fetched
POLICY_HELP = (f"{', '.join(POLICIES)}; NAME:{{{','.join(RETENTIONS)}}} for another retention, "
               f"NAME:{{{','.join(CHOICES)}}} for what of the predicted is fetched")


def _policy(text: str) -> Policy:
    name, *suffixes = text.split(":")
    if name not in POLICIES:
        raise ConfigError("policy", name, f"one of {', '.join(POLICIES)}")
    policy = replace(POLICIES[name], name=text)
    for suffix in suffixes:
        if suffix in CHOICES:
            policy = replace(policy, worth=CHOICES[suffix])
        elif suffix in RETENTIONS:
            policy = replace(policy, retain=suffix != "none",
                             retention="lru" if suffix == "none" else suffix)
        else:
            raise ConfigError("policy", text, f"{name} with {', '.join((*RETENTIONS, *CHOICES))}")
    return policy


def parse_policies(text: str) -> list[Policy]:
    """Policies of a comma-separated list, in order; :class:`ConfigError` names the known ones.

    ``NAME:lru``, ``NAME:ewma``, ``NAME:none`` is policy NAME with another retention; then, or
    instead, ``:worth`` fetches only what is worth it, ``:static`` all that is predicted.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    policies = [_policy(name) for name in names]
    if not names or len(set(names)) != len(names):
        raise ConfigError("policy", text, "a list of one or more different policies")
    return policies
