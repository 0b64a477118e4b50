"""Groups of tokens that are split over PEs: results, what is read when, and what it gains."""

import pytest

from stmoe.compute import array as array_module
from stmoe_golden.compute import mapping
from support.routing import extremes

from .test_array import geometry
from .test_tokens import Tokens, expected

SPLIT = {"max_tokens": 8, "split_groups": True}
# Sharers, tokens, top_k, PEs: parts
RULE = [(1, 1, 2, 2, [1]), (3, 8, 2, 4, [2, 1]), (2, 8, 2, 4, [2]), (8, 8, 2, 4, [2, 2, 2, 2]),
        (7, 8, 2, 4, [2, 2, 2, 1]), (8, 8, 2, 3, [4, 4]), (8, 8, 2, 2, [4, 4]), (4, 8, 2, 2, [4]),
        (5, 8, 2, 2, [3, 2]), (8, 8, 1, 8, [2, 2, 2, 2]), (3, 3, 2, 16, [2, 1])]


@pytest.mark.parametrize(("sharers", "tokens", "top_k", "pes", "wanted"), RULE)
def test_a_part_is_at_most_half_of_a_pes_even_share(sharers, tokens, top_k, pes, wanted):
    g = geometry(pes=pes, model_top_k=top_k, **SPLIT)
    assert mapping.parts(g, sharers, tokens) == wanted
    whole = geometry(pes=pes, model_top_k=top_k, max_tokens=8)
    assert mapping.parts(whole, sharers, tokens) == [sharers]


@pytest.mark.parametrize("shape, stall, rate", [
    ({"pes": 2, "d_ff": 8}, 0, 0), ({"pes": 3, "rows": 2, "lanes": 4, "d_ff": 8}, 0.4, 0.5),
    ({"pes": 4, "rows": 8, "lanes": 4, "d_ff": 8, "model_shared_experts": 1,
      "model_shared_d_ff": 8}, 0.4, 0),
    ({"pes": 2, "rows": 8, "d_model": 64, "d_ff": 32, "weight_group": 32}, 0, 0.7)])
def test_every_sharing_equals_golden(shape, stall, rate):
    g = geometry(**shape, **SPLIT)
    bench = Tokens(g, 7, stall, rate)
    routings = list(extremes(tokens=8, experts=7, top_k=2).values())
    if g.config.weight_group:  # of which one is enough
        routings = routings[2:3]
    bench.play(routings)
    assert [bench.mac_words, bench.bank_reads, bench.side_reads] == expected(g, routings)


def cycles(pes, routing):
    """From the first word multiplied to the last; and words of an expert."""
    bench = Tokens(geometry(pes=pes, d_model=64, d_ff=32, model_top_k=1, **SPLIT), 1, 0, 0)
    bench.play([routing])
    busy = bench.busy
    while not busy[-1]:
        busy.pop()
    return len(busy), bench.g.weight_words


@pytest.mark.parametrize("pes", [2, 4])
def test_an_expert_of_all_tokens_keeps_all_pes_busy(pes):
    split, words = cycles(pes, [[0]] * 8)  # else 8 * words, which leaves no bubbles
    assert split <= 8 * words / pes + 2 * pes  # handed out one a cycle


def test_unequal_parts_are_as_fast_as_the_larger():
    split, words = cycles(2, [[0]] * 5)
    assert 3 * words <= split <= 3 * words + 4


@pytest.mark.parametrize("broken", ["first", "release", "denied"])
def test_a_broken_split_is_noticed(broken, monkeypatch):
    class Broken(array_module.GroupSplitter):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            if broken == "first":  # each part begins with the group's first token
                m.d.comb += self.part.payload.first.eq(0)
            if broken == "release":  # of each part
                m.d.comb += self.released.valid.eq(self.release.valid)
            return m

    monkeypatch.setattr(array_module, "GroupSplitter", Broken)
    if broken == "denied":
        monkeypatch.setattr(array_module.PeArray, "_share_slots", lambda *given: None)
    with pytest.raises(AssertionError):
        Tokens(geometry(pes=2, d_ff=8, **SPLIT), 7, 0, 0).play([[[0, 1]] * 5 + [[2, 3]]] * 2)


def test_another_rule_than_golden_s_is_noticed(monkeypatch):
    g = geometry(pes=2, d_ff=8, **SPLIT)
    routings = [[[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]]
    right = expected(g, routings)
    monkeypatch.setattr("stmoe.compute.split.GroupSplitter.limit", lambda self, tokens: 5)
    bench = Tokens(g, 7, 0, 0)
    bench.play(routings)
    assert [bench.mac_words, bench.bank_reads, bench.side_reads] != right
