"""Policies by name, with other retention and another choice of what is fetched."""

import pytest

from stmoe.config import ConfigError
from stmoe_sim.policies import POLICIES, parse_policies


@pytest.mark.parametrize("text, retain, retention, worth", [
    ("table", True, "lru", False), ("table:ewma", True, "ewma", False),
    ("table:worth", True, "lru", True), ("table:ewma:worth", True, "ewma", True),
    ("table:none:worth", False, "lru", True), ("st-moe", True, "ewma", True),
    ("st-moe:static", True, "ewma", False), ("st-moe:lru:static", True, "lru", False)])
def test_suffixes_change_retention_and_what_is_fetched(text, retain, retention, worth):
    (policy,) = parse_policies(text)
    assert (policy.name, policy.retain, policy.retention, policy.worth) == (
        text, retain, retention, worth)
    assert policy.predictor == POLICIES[text.split(":")[0]].predictor


@pytest.mark.parametrize("text", ["table:", "table:fifo", "table:worth:fifo", "fifo:worth"])
def test_unknown_suffixes_are_refused(text):
    with pytest.raises(ConfigError, match="policy"):
        parse_policies(text)
