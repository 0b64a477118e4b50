import subprocess
import sys
import tomllib

import pytest

from stmoe.config import PRESETS, AcceleratorConfig, ConfigError, Geometry, preset

TINY = PRESETS["tiny"]

# Field (as in the message) -> a value that must be refused, with what else must change with it.
ILLEGAL = [
    ("model.layers", 0, {}), ("model.layers", 257, {}), ("model.layers", "8", {}),
    ("model.layers", True, {}),
    ("model.experts", 1, {}), ("model.experts", 513, {}),
    ("model.top_k", 0, {}), ("model.top_k", 17, {}), ("model.top_k", 5, {"model_experts": 4}),
    ("model.d_model", 4, {}), ("model.d_model", 16400, {}), ("model.d_model", 72, {}),
    ("model.d_model", 64, {"rows": 32}),
    ("model.d_ff", 4, {}), ("model.d_ff", 16400, {}), ("model.d_ff", 40, {}),
    ("model.shared_experts", 9, {}), ("model.shared_experts", -1, {}),
    ("model.shared_d_ff", 0, {"model_shared_experts": 1}), ("model.shared_d_ff", 32, {}),
    ("model.shared_d_ff", 48, {"model_shared_experts": 1}),
    ("weight_group", 16, {}), ("weight_group", 32, {"lanes": 64}), ("weight_group", True, {}),
    ("model.d_ff", 96, {"weight_group": 64, "max_d_ff": 0}),
    ("max_d_ff", 48, {"weight_group": 32}),
    ("model.weight_bits", 4, {}), ("model.weight_bits", 16, {}),
    ("pes", 0, {}), ("pes", 17, {}), ("rows", 3, {}), ("rows", 256, {}),
    ("lanes", 2, {}), ("lanes", 24, {}), ("slots", 1, {}), ("slots", 4097, {}),
    ("banks_per_slot", 0, {}), ("banks_per_slot", 3, {}), ("banks_per_slot", 32, {}),
    ("max_d_ff", 16, {}), ("max_d_ff", 72, {}), ("max_d_ff", -1, {}),
    ("tile_bytes", 4, {}), ("tile_bytes", 500, {}), ("tile_bytes", 8192, {}),
    ("axi_data_bits", 16, {}), ("axi_data_bits", 96, {}), ("axi_data_bits", 1024, {}),
    ("axi_addr_bits", 15, {}), ("axi_addr_bits", 65, {}),
    ("burst_beats", 0, {}), ("burst_beats", 257, {}), ("integrity", 1, {}),
    ("tile_bytes", 8, {}), ("burst_beats", 1, {}),
    ("outstanding", 0, {}), ("outstanding", 65, {}), ("retries", -1, {}), ("retries", 8, {}),
    ("max_tokens", 0, {}), ("max_tokens", 3, {}), ("max_tokens", 128, {}),
    ("max_tokens", 64, {"model_experts": 512}),
    ("dense_blobs", -1, {}), ("dense_blobs", 257, {}),
    ("split_groups", True, {}), ("split_groups", True, {"max_tokens": 4, "pes": 1}),
    ("split_groups", 1, {"max_tokens": 4}),
    ("split_groups", True, {"max_tokens": 4, "dense_blobs": 4}),
    ("predictor", "oracle", {}), ("prefetch_round", 0, {}), ("prefetch_round", 256, {}),
    ("router_layers", 9, {}), ("router_layers", -1, {}),
    ("clock_mhz", 0, {}), ("clock_mhz", 4001, {}), ("slots", 2.0, {}),
    ("linear.features", ((0, 0),), {}), ("linear.features", ((8, 0),), {}),
    ("linear.features", ((1, 64),), {}), ("linear.features", ((1, 0), (1, 0)), {}),
    ("linear.leaders", ((0, 0),), {}), ("linear.leaders", 3, {}),
    ("linear.pair", 3, {}), ("linear.pair", 1 << 17, {}),
    ("linear.previous", 3, {}), ("linear.previous", 1 << 17, {}),
    ("linear.stages", 0, {}), ("linear.stages", 2, {}), ("linear.stages", 4, {}),
    ("linear.features", 3, {}), ("linear.lexical", 3, {}), ("linear.lexical", 1 << 17, {}),
    ("linear.lexical_store", "disk", {}), ("linear.bits", 3, {}), ("linear.bits", 17, {}),
    ("linear.weight_store", "disk", {}), ("linear.window", 1, {}), ("linear.window", 3, {}),
    ("linear.window", 128, {}),
    ("linear.fraction", 3, {}), ("linear.fraction", 11, {}),
    ("linear.rate", -5, {}), ("linear.rate", 9, {}), ("linear.lexical_rate", 9, {}),
    ("linear.lookahead", 1, {}), ("linear.gain", 4096, {}), ("linear.gain_shift", 7, {}),
]


@pytest.mark.parametrize(("field", "value", "others"), ILLEGAL)
def test_illegal_value_is_refused_with_field_value_and_limit(field, value, others):
    with pytest.raises(ConfigError) as caught:
        TINY.replace(**others, **{field.replace(".", "_"): value})
    assert caught.value.field == field
    assert caught.value.value == value
    assert caught.value.limit
    assert field in str(caught.value) and repr(value) in str(caught.value)


def test_every_field_has_a_refused_value():
    fields = set(AcceleratorConfig.__dataclass_fields__) - {"model", "linear", "name"}
    fields |= {f"model.{field}" for field in TINY.model.__dataclass_fields__} - {"model.name"}
    fields |= {f"linear.{field}" for field in TINY.linear.__dataclass_fields__}
    assert {field for field, _, _ in ILLEGAL} == fields


def test_bus_wider_than_a_weight_word_is_refused():
    with pytest.raises(ConfigError, match=r"rows\*lanes must be at least 64: a bus .*, not 16"):
        TINY.replace(rows=4, lanes=4, axi_data_bits=512, tile_bytes=512)


def test_an_expert_larger_than_half_the_buffer_takes_half_of_it_as_a_ring():
    g = Geometry(TINY.replace(slots=5, banks_per_slot=2, model_d_ff=16, max_d_ff=128), 128)
    assert (g.banks, g.half, g.group, g.slots, g.ring_slots, g.ring) == (10, 2, 3, 2, 2, True)
    assert g.ring_words == 4 * 16 <= 4 * g.bank_words  # of which each bank has 24
    assert g.bank_side_words << g.half >= g.side_words
    narrow = [Geometry(g.config, d_ff) for d_ff in (16, 32)]
    assert [(n.group, n.slots, n.ring) for n in narrow] == [(1, 5, False), (2, 2, False)]
    assert not Geometry(TINY).has_ring and g.has_ring
    assert Geometry(TINY.replace(slots=3), 64).ring_slots == 3


def test_a_ring_that_holds_no_tile_is_refused():
    small = TINY.replace(slots=2, model_d_ff=16, max_d_ff=64, axi_data_bits=512, tile_bytes=4096)
    with pytest.raises(ConfigError, match=r"half of it, 32 bus beats, holds no tile .* 64"):
        Geometry(small, 64)
    Geometry(small.replace(tile_bytes=1024), 64)
    with pytest.raises(ConfigError, match="d_ff must be at most max_d_ff = 64, not 96"):
        Geometry(TINY, 96)


def test_sizes_that_overflow_a_width_of_the_netlist_are_refused():
    """Twenty-four bits of bus beats, the address of the expert memory, eight bits of experts."""
    huge = TINY.replace(model_d_model=16384, model_d_ff=16384, max_d_ff=0, axi_data_bits=32)
    with pytest.raises(ConfigError, match=r"d_ff must be .* at most 16777215, not 16384"):
        Geometry(huge)
    memory = Geometry(TINY).total_bytes
    assert memory == Geometry(TINY, 64).memory_bytes + (4096 + 8192 + 1024) * 8 * 64
    bits = (memory - 1).bit_length()
    Geometry(TINY.replace(axi_addr_bits=bits))
    with pytest.raises(ConfigError, match=rf"axi_addr_bits must be at least {bits} for {memory} "):
        Geometry(TINY.replace(axi_addr_bits=bits - 1))
    TINY.replace(model_d_ff=16, model_shared_experts=1, model_shared_d_ff=16 * 251)
    with pytest.raises(ConfigError, match=r"model.shared_d_ff .* at most 255 \(they are 256\)"):
        TINY.replace(model_d_ff=16, model_shared_experts=1, model_shared_d_ff=16 * 252)


@pytest.mark.parametrize("name", PRESETS)
def test_toml_round_trip(name):
    config = PRESETS[name]
    again = AcceleratorConfig.from_toml(config.to_toml())
    assert again == config and again.hash == config.hash
    assert tomllib.loads(config.to_toml())["model"]["d_ff"] == config.model.d_ff
    assert AcceleratorConfig.from_dict(config.to_dict()) == config


def test_toml_round_trip_keeps_awkward_names():
    config = TINY.replace(name='a "b"\n\\ é')
    assert AcceleratorConfig.from_toml(config.to_toml()) == config


@pytest.mark.parametrize(("text", "field"), [
    ("slots = ", "TOML"), ("slots = 8", "model"), ("model = 3", "model"),
    ("[model]\nlayers = 1", "model.experts"),
    (TINY.to_toml() + "colour = 1\n", "model.colour"),
    ("colour = 1\n" + TINY.to_toml(), "colour"),
    (TINY.to_toml().replace('name = "tiny"', "name = 3", 1), "name"),
])
def test_bad_toml_names_the_field(text, field):
    with pytest.raises(ConfigError) as caught:
        AcceleratorConfig.from_toml(text)
    assert caught.value.field == field


def test_hash_ignores_names_and_sees_every_other_field():
    assert TINY.replace(name="other", model_name="other").hash == TINY.hash
    changes = {
        "pes": 1, "rows": 8, "lanes": 8, "slots": 8, "banks_per_slot": 2, "max_d_ff": 32,
        "tile_bytes": 256, "axi_data_bits": 128, "axi_addr_bits": 32, "burst_beats": 16,
        "integrity": False, "outstanding": 4, "retries": 1, "predictor": "none",
        "prefetch_round": 8, "weight_group": 32,
        "router_layers": 0, "clock_mhz": 100, "model_layers": 9, "model_experts": 16,
        "model_top_k": 2, "model_d_model": 128, "model_d_ff": 64, "linear_bits": 8}
    hashes = {TINY.hash} | {TINY.replace(**{key: value}).hash for key, value in changes.items()}
    assert len(hashes) == len(changes) + 1
    shared = TINY.replace(model_shared_experts=1, model_shared_d_ff=32)
    assert shared.hash not in hashes


def test_hash_is_the_same_in_every_process():
    script = "from stmoe.config import PRESETS; print([c.hash for c in PRESETS.values()])"
    seen = {subprocess.run([sys.executable, "-c", script], check=True, capture_output=True,
                           env={"PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert seen == {f"{[config.hash for config in PRESETS.values()]}\n".encode()}


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ConfigError, match="tiny, edge, board, board-small, server, not 'huge'"):
        preset("huge")


@pytest.mark.parametrize("name", PRESETS)
def test_geometry_is_consistent(name):
    g = Geometry(PRESETS[name])
    assert g.blob_beats * g.axi_bytes == g.blob_bytes <= g.stride
    assert g.bank_words * g.config.banks_per_slot >= g.weight_words
    assert g.slots == g.config.slots and g.group == g.config.banks_per_slot.bit_length() - 1
    assert g.weight_words * g.word_bytes == 3 * g.config.model.d_model * g.config.model.d_ff
    assert 2 ** g.beat_bits > g.max_blob_beats
    plain = Geometry(PRESETS[name].replace(integrity=False))
    assert plain.blob_beats == plain.content_beats == g.content_beats
    assert g.tiles == -(-g.blob_beats // g.tile_beats) == g.blob_beats - g.content_beats
    assert g.tile_bytes == g.config.tile_bytes
    assert g.stride % g.tile_bytes == g.alignment % g.tile_bytes == 0


def test_the_last_tile_may_be_short_but_is_never_a_crc_alone():
    for beats in (2, 4, 8, 16, 32, 64):
        g = Geometry(TINY.replace(tile_bytes=8 * beats))
        assert g.blob_beats % g.tile_beats != 1


@pytest.mark.parametrize(("burst", "beats"), [(2, 2), (48, 32), (63, 32), (64, 64), (256, 64)])
def test_a_tile_with_a_crc_is_at_most_a_burst(burst, beats):
    assert Geometry(TINY.replace(burst_beats=burst)).tile_beats == beats
    assert Geometry(TINY.replace(burst_beats=burst, integrity=False)).tile_beats == 64
