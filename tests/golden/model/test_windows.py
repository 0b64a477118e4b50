"""Prompts and drafted tokens computed several at a time: the same text, and what was drafted."""

import pytest

from stmoe_golden.model.drafts import draft
from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.model.error import ModelError
from stmoe_golden.model.generation import Generation
from stmoe_golden.model.sampling import Sampler
from stmoe_golden.model.transformer import Transformer

PROMPT = [5, 9, 5, 9, 5, 9, 7, 5, 9, 5]


class Watched(GoldenEngine):
    """Notes what begins together."""

    def __init__(self, model, max_tokens):
        super().__init__(model, max_tokens=max_tokens)
        self.begun = []

    def begin_tokens(self, tokens, start, *, drafted):
        self.begun.append((len(tokens), start, drafted))
        super().begin_tokens(tokens, start, drafted=drafted)


@pytest.mark.parametrize("tokens, count, want", [
    ([1, 2, 3, 1, 2], 3, [3, 1, 2]), ([1, 2, 3, 1, 2], 1, [3]), ([1, 2, 3], 3, []),
    ([4, 4], 3, [4]), ([1, 2, 9, 2, 3, 1, 2], 2, [9, 2]), ([7], 3, []), ([1, 1], 0, [])])
def test_drafts_are_what_followed_the_last_time(tokens, count, want):
    assert draft(tokens, count) == want


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("at_a_time, window", [(4, 4), (4, 1), (3, 2)])
def test_text_does_not_depend_on_how_many_are_computed_at_a_time(
        model, at_a_time, window, temperature):
    def text(engine, **options):
        generation = Generation(Transformer(model.backbone), engine, PROMPT,
                                Sampler(temperature, 0.9, 3), max_tokens=14, stop_at_end=False,
                                **options)
        return list(generation), generation

    want, _ = text(GoldenEngine(model))
    engine = Watched(model, at_a_time)
    found, generation = text(engine, window=window)
    assert found == want and 0 <= generation.accepted <= generation.drafted
    assert engine.begun[0] == (at_a_time, 0, False)
    assert (generation.drafted > 0) == (window > 1)
    steps = len(want) - 1 - generation.accepted
    assert len(engine.begun) == -(-len(PROMPT) // at_a_time) + steps * (window > 1)


def test_a_window_that_the_engine_cannot_take_is_refused(model):
    with pytest.raises(ModelError, match="window: must be 1 to 2"):
        Generation(Transformer(model.backbone), GoldenEngine(model, max_tokens=2), PROMPT, window=3)
