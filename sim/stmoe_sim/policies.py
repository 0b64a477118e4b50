"""Policies: run-time settings of one netlist."""

from dataclasses import dataclass

from stmoe.config import ConfigError

__all__ = ["POLICIES", "Policy", "parse_policies"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Settings of the control register, and what the policy does."""

    name: str
    summary: str
    retain: bool = True
    prefetch: bool = False
    use_cct: bool = False
    use_ht: bool = False

    @property
    def predict(self) -> bool:
        """Whether the prediction unit runs."""
        return self.use_cct or self.use_ht


POLICIES = {policy.name: policy for policy in (
    Policy(name="on-demand", summary="load every expert when it is routed, keep none",
           retain=False),
    Policy(name="lru", summary="keep the least recently used, no prefetch"),
    Policy(name="ht", summary="lru, and prefetch what the previous token used (HT only)",
           prefetch=True, use_ht=True),
    Policy(name="cct", summary="lru, and prefetch by cross-layer correlation (CCT only)",
           prefetch=True, use_cct=True),
    Policy(name="table", summary="lru, and prefetch by CCT + HT as published",
           prefetch=True, use_cct=True, use_ht=True),
    Policy(name="table-no-reuse", summary="CCT + HT as published, no expert kept after its layer",
           retain=False, prefetch=True, use_cct=True, use_ht=True),
)}


def parse_policies(text: str) -> list[Policy]:
    """Policies of a comma-separated list, in order; :class:`ConfigError` names the known ones."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in POLICIES:
            raise ConfigError("policy", name, f"one of {', '.join(POLICIES)}")
    if not names or len(set(names)) != len(names):
        raise ConfigError("policy", text, "a list of one or more different policies")
    return [POLICIES[name] for name in names]
