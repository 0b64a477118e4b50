"""Tiny random-weight instances of every architecture that can be recorded."""

import pytest
import torch
import transformers

EXPERTS, TOP_K, WIDTH, VOCABULARY, CONTEXT = 8, 2, 32, 64, 48
COMMON = dict(
    vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
    num_experts_per_tok=TOP_K, initializer_range=0.3, eos_token_id=None, bos_token_id=None,
    pad_token_id=None)
LATENT = dict(
    moe_intermediate_size=16, n_routed_experts=EXPERTS, n_shared_experts=1,
    first_k_dense_replace=1, q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4,
    v_head_dim=8, num_key_value_heads=4, n_group=4, topk_group=2, routed_scaling_factor=2.5)
SMALL = dict(moe_intermediate_size=16, num_experts=EXPERTS)
MODELS = {
    "qwen2_moe": ("Qwen2Moe", SMALL | dict(shared_expert_intermediate_size=16,
                                           norm_topk_prob=False)),
    "qwen2_moe_sparse_step": ("Qwen2Moe", SMALL | dict(
        shared_expert_intermediate_size=16, norm_topk_prob=True, decoder_sparse_step=2,
        num_hidden_layers=4)),
    "qwen3_moe": ("Qwen3Moe", SMALL | dict(norm_topk_prob=True, head_dim=8)),
    "mixtral": ("Mixtral", dict(num_local_experts=EXPERTS)),
    "olmoe": ("Olmoe", dict(num_experts=EXPERTS, norm_topk_prob=False)),
    "deepseek_v2": ("DeepseekV2", LATENT | dict(topk_method="group_limited_greedy")),
    "deepseek_v2_greedy": ("DeepseekV2", LATENT | dict(topk_method="greedy")),
    "deepseek_v3": ("DeepseekV3", LATENT | dict(norm_topk_prob=True, num_experts_per_tok=3)),
    "gpt_oss": ("GptOss", dict(num_local_experts=EXPERTS, head_dim=8, sliding_window=16)),
}


def make(name):
    """A seeded model in float32; router biases, where there are any, are not zero."""
    torch.manual_seed(len(name))
    torch.set_num_threads(1)
    family, changes = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**(COMMON | changes))
    network = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for key, value in [*network.named_parameters(), *network.named_buffers()]:
            if key.endswith("e_score_correction_bias"):
                value.copy_(torch.randn(value.shape) * 0.3)
            elif key.endswith(("router.weight", "gate.weight", "router.bias")):
                value.copy_(torch.randn(value.shape) * 0.3)
    return network


@pytest.fixture(scope="session")
def build():
    return make


@pytest.fixture(scope="session", params=MODELS)
def network(request):
    made = make(request.param)
    made.case = request.param
    return made
