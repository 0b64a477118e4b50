"""What the hooks record is what each architecture really computes with.

Two independent witnesses: which experts receive a gradient when a MoE block runs on one token
alone, and a formula of the routing, written out here, on the block's input.
"""

import numpy as np
import pytest
import torch

from stmoe_golden.trace import DECODE, PREFILL
from stmoe_sim.record.hooks import Capture, routers_of
from stmoe_sim.record.huggingface import HuggingFaceModel
from stmoe_sim.record.run import RecordError, Source, record

TOP_K, WIDTH, VOCABULARY, CONTEXT = 2, 32, 64, 48  # as in conftest


class Numbers:
    """A tokenizer of texts that are token ids."""

    @staticmethod
    def encode(text):
        return [int(word) for word in text.split()]


PROMPT = " ".join(str(7 * i % VOCABULARY) for i in range(11))
TOKENS = 9
EVERYTHING = frozenset({"hidden", "logits", "lookahead"})


@pytest.fixture(scope="module")
def model(network):
    made = HuggingFaceModel(network, Numbers(), network.case)
    made.case = network.case
    return made


@pytest.fixture(scope="module")
def trace(model):
    return record(model, [Source("prompt", PROMPT)], name="t", tokens=TOKENS, keep=EVERYTHING)


@pytest.fixture(scope="module")
def seen(model, trace):
    """Inputs of the MoE blocks [layer][token, d_model] over the whole sequence at once."""
    blocks = [layer.mlp for layer in model.network.model.layers if hasattr(layer.mlp, "experts")]
    inputs = []
    handles = [block.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0].clone()))
               for block in blocks]
    with torch.no_grad():
        model.network(torch.tensor([trace.token.tolist()]))
    for handle in handles:
        handle.remove()
    return blocks, inputs


def test_the_whole_sequence_is_recorded_with_its_phases(model, trace):
    layers = {"qwen2_moe_sparse_step": 2, "deepseek_v2": 2, "deepseek_v2_greedy": 2,
              "deepseek_v3": 2}.get(model.case, 3)
    top_k = 3 if model.case == "deepseek_v3" else TOP_K
    assert trace.experts.shape == (11 + TOKENS, layers, top_k) and trace.num_experts == 8
    assert trace.phase.tolist() == [PREFILL] * 11 + [DECODE] * TOKENS
    assert trace.token[:11].tolist() == Numbers.encode(PROMPT)
    assert trace.hidden.shape[2] == WIDTH


def test_decoding_is_greedy(model, trace):
    made = model.network.generate(torch.tensor([trace.token[:11].tolist()]), do_sample=False,
                                  max_new_tokens=TOKENS, attention_mask=torch.ones(1, 11))
    assert made[0].tolist() == trace.token.tolist()


def test_the_experts_recorded_are_those_that_compute(trace, seen):
    blocks, inputs = seen
    for layer, (block, rows) in enumerate(zip(blocks, inputs, strict=True)):
        for token in range(trace.tokens):
            block.zero_grad()
            output = block(rows[token][None, None])
            (output[0] if isinstance(output, tuple) else output).square().sum().backward()
            used = block.experts.down_proj.grad.abs().flatten(1).sum(1).nonzero()[:, 0]
            assert used.tolist() == sorted(trace.experts[token, layer].tolist()), (layer, token)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def best_groups(scores, groups, kept):
    """Mask of the experts in the ``kept`` groups of highest ``scores`` [token, group]."""
    chosen = np.argsort(-scores, axis=1)[:, :kept]
    mask = np.zeros(scores.shape, bool)
    np.put_along_axis(mask, chosen, True, axis=1)
    return np.repeat(mask, 8 // groups, axis=1)


def routing(config, router, x):
    """Weights [token, expert] as the model uses them, 0 of experts not chosen; in float64."""
    weight = router.weight.detach().double().numpy()
    logits, kind = x @ weight.T, config.model_type
    if kind == "gpt_oss":
        logits = logits + router.bias.detach().double().numpy()
    score = choice = 1 / (1 + np.exp(-logits)) if kind == "deepseek_v3" else softmax(logits)
    if kind == "deepseek_v3":
        choice = score + router.e_score_correction_bias.double().numpy()
        top = np.sort(choice.reshape(-1, 4, 2), axis=-1).sum(-1)
        choice = np.where(best_groups(top, 4, 2), choice, -np.inf)
    elif getattr(config, "topk_method", "") == "group_limited_greedy":
        choice = np.where(best_groups(score.reshape(-1, 4, 2).max(-1), 4, 2), choice, 0)
    rank = np.argsort(-choice, axis=1)[:, :config.num_experts_per_tok]
    used = np.zeros(score.shape)
    np.put_along_axis(used, rank, np.take_along_axis(score, rank, 1), 1)
    if kind in ("mixtral", "gpt_oss") or getattr(config, "norm_topk_prob", False):
        used /= used.sum(1, keepdims=True)
    if kind.startswith("deepseek"):
        used *= 2.5
    return used


def test_weights_and_ranks_follow_the_architecture(model, trace, seen):
    blocks, inputs = seen
    for layer, (block, rows) in enumerate(zip(blocks, inputs, strict=True)):
        router = block.router if hasattr(block, "router") else block.gate
        used = routing(model.network.config, router, rows.double().numpy())
        found = np.take_along_axis(used, trace.experts[:, layer].astype(int), axis=1)
        assert (found > 0).all(), layer
        assert np.abs(found - trace.weights[:, layer]).max() < 1e-4, layer
        assert (np.diff(trace.weights[:, layer]) <= 0).all(), layer


def test_hidden_states_and_logits_are_the_blocks_own(trace, seen):
    blocks, inputs = seen
    for layer, (block, rows) in enumerate(zip(blocks, inputs, strict=True)):
        router = block.router if hasattr(block, "router") else block.gate
        x = rows.double().numpy()
        assert np.abs(x - trace.hidden[:, layer]).max() < 0.01
        logits = x @ router.weight.detach().double().numpy().T
        if hasattr(router, "bias"):
            logits = logits + router.bias.detach().double().numpy()
        assert np.abs(logits - trace.logits[:, layer]).max() < 0.02


def test_lookahead_is_the_next_router_on_this_input(trace, seen):
    blocks, inputs = seen
    assert not trace.lookahead[:, -1].any()
    for layer in range(trace.layers - 1):
        after = blocks[layer + 1]
        router = after.router if hasattr(after, "router") else after.gate
        logits = inputs[layer].double().numpy() @ router.weight.detach().double().numpy().T
        if hasattr(router, "bias"):
            logits = logits + router.bias.detach().double().numpy()
        assert np.abs(logits - trace.lookahead[:, layer]).max() < 0.02


def test_a_forced_text_is_routed_as_when_it_was_generated(model, trace):
    text = " ".join(map(str, trace.token))
    forced = record(model, [Source("text", text, forced=True, domain="numbers")], name="f")
    assert forced.phase.tolist() == [DECODE] * trace.tokens
    assert np.array_equal(forced.experts, trace.experts)
    assert forced.domain_names == ["numbers"] and forced.hidden is None


def test_nothing_stays_in_the_model(model, trace):
    for router in routers_of(model.network):
        assert not router._forward_hooks


def test_equal_weights_rank_by_id(build):
    network = build("mixtral")
    for router in routers_of(network):
        with torch.no_grad():
            router.weight.zero_()
    trace = record(HuggingFaceModel(network, Numbers(), "x"), [Source("p", PROMPT)], name="t",
                   tokens=2)
    assert (trace.weights == 0.5).all() and (np.diff(trace.experts) > 0).all()


def test_a_long_text_becomes_sequences_of_the_context(build):
    model = HuggingFaceModel(build("olmoe"), Numbers(), "x")
    text = " ".join(str(i % VOCABULARY) for i in range(2 * CONTEXT + 5))
    trace = record(model, [Source("text", text, forced=True)], name="t")
    assert trace.offsets.tolist() == [0, CONTEXT, 2 * CONTEXT, 2 * CONTEXT + 5]
    part = Source("text", ids=tuple(range(20)), forced=True)
    twice = record(model, [part, part], name="t", tokens=7)
    assert twice.offsets.tolist() == [0, 7, 14] and twice.token.tolist() == [*range(7)] * 2


def test_the_end_token_ends_a_sequence(build):
    model = HuggingFaceModel(build("mixtral"), Numbers(), "x")
    free = record(model, [Source("p", PROMPT)], name="t", tokens=TOKENS).token.tolist()
    model.stops = frozenset([free[13]])
    end = free.index(free[13], 11)
    short = record(model, [Source("p", PROMPT)], name="t", tokens=TOKENS)
    assert short.token.tolist() == free[:end]


@pytest.mark.parametrize(("sources", "tokens", "message"), [
    ([Source("long", "1 " * 45)], 4, "long: prompt must be at most 44 tokens, .* not 45"),
    ([Source("empty", "")], 4, "empty: must hold at least one token"),
])
def test_what_does_not_fit_is_refused(build, sources, tokens, message):
    model = HuggingFaceModel(build("mixtral"), Numbers(), "x")
    with pytest.raises(RecordError, match=message):
        record(model, sources, name="t", tokens=tokens)


def test_a_router_that_returns_something_else_is_refused(build):
    network = build("mixtral")
    router = routers_of(network)[1]
    forward = router.forward
    router.forward = lambda x: forward(x)[:2]
    with pytest.raises(RecordError, match="mixtral: the router must return logits, weights"):
        with Capture(network, frozenset()).listen(), torch.no_grad():
            network(torch.tensor([[1, 2]]))


def test_a_model_without_experts_is_refused(build):
    network = build("qwen2_moe")
    for layer in network.model.layers:
        layer.mlp = layer.mlp.shared_expert
    with pytest.raises(RecordError, match="qwen2_moe: the model has no MoE layer, only 3 dense"):
        HuggingFaceModel(network, Numbers(), "x")
