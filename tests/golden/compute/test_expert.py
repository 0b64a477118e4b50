"""The golden datapath against exact rational arithmetic, and its ranges."""

import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmoe.config import Geometry, preset
from stmoe_golden.compute.arithmetic import SILU, requant, round_shift
from stmoe_golden.compute.blob import CorruptTile, pack, unpack
from stmoe_golden.compute.expert import Expert, moe_layer


@given(st.integers(-2**47, 2**47), st.integers(0, 63))
def test_rounding_is_half_to_even(value, shift):
    assert int(round_shift(np.array(value), shift)) == round(Fraction(value, 2**shift))


@given(st.integers(-2**31, 2**31 - 1), st.integers(0, 65535), st.integers(0, 63),
       st.sampled_from([8, 10, 16]))
def test_requantisation_saturates(acc, mult, shift, bits):
    exact = round(Fraction(acc * mult, 2**shift))
    low, high = -2**(bits - 1), 2**(bits - 1) - 1
    assert int(requant(np.array(acc), mult, shift, bits)) == min(max(exact, low), high)


def test_silu_table():
    assert SILU[0] == 0 and SILU[64] == round(4096 * 0.7310585786) and SILU[511] == 32693
    assert abs(int(SILU[-512 & 1023])) <= 12  # silu(-8) = -0.00268


def by_hand(expert: Expert, x: np.ndarray) -> list[int]:
    """The expert in Python integers, row by row."""
    def scaled(acc, mult, shift, bits):
        value = round(Fraction(int(acc) * int(mult), 2**int(shift)))
        return min(max(value, -2**(bits - 1)), 2**(bits - 1) - 1)

    hidden = []
    for j in range(len(expert.gate)):
        dots = [sum(int(w) * int(v) for w, v in zip(m[j], x, strict=True))
                for m in (expert.gate, expert.up)]
        g = scaled(dots[0], expert.gate_scale.mult[j], expert.gate_scale.shift[j], 10)
        u = scaled(dots[1], expert.up_scale.mult[j], expert.up_scale.shift[j], 16)
        hidden.append(scaled(int(SILU[g & 1023]) * u, *expert.hidden_scale, 8))
    return [scaled(sum(int(w) * h for w, h in zip(row, hidden, strict=True)), mult, shift, 16)
            for row, mult, shift in zip(expert.down, *expert.out_scale, strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_expert_against_integers(seed):
    rng = np.random.default_rng(seed)
    expert = Expert.random(rng, 32, 16)
    x = rng.integers(-128, 128, 32, np.int8)
    assert expert.forward(x).tolist() == by_hand(expert, x)


def test_random_experts_use_their_ranges():
    rng = np.random.default_rng(1)
    expert = Expert.random(rng, 64, 512)
    x = rng.integers(-128, 128, 64, np.int8)
    g = requant(expert.gate.astype(np.int32) @ x.astype(np.int32), *expert.gate_scale, bits=10)
    assert (abs(g) >= 511).any() and (abs(g) < 64).any()
    y = Expert.random(rng, 512, 64).forward(rng.integers(-128, 128, 512, np.int8))
    assert 3000 < np.abs(y.astype(int)).mean() < 20000


def test_layer_sums_and_saturates():
    rng = np.random.default_rng(2)
    experts = [Expert.random(rng, 32, 16) for _ in range(3)]
    x = rng.integers(-128, 128, 32, np.int8)
    outputs = np.array([e.forward(x) for e in experts], object)
    gates = np.array([0x8000, 0x4001, 7], np.uint16)
    exact = [min(max(round(Fraction(int(v), 2**15)), -32768), 32767)
             for v in (gates.astype(object)[:, None] * outputs).sum(0)]
    assert moe_layer(x, experts, gates).tolist() == exact
    assert np.abs(moe_layer(x, [experts[0]] * 16, np.full(16, 65535)).astype(int)).max() >= 32767


@pytest.mark.parametrize("name, group", [("tiny", 0), ("edge", 0), ("tiny", 32), ("edge", 32)])
def test_blob_round_trip(name, group):
    g = Geometry(preset(name).replace(model_d_ff=64, weight_group=group))
    model = g.config.model
    expert = Expert.random(np.random.default_rng(0), model.d_model, model.d_ff, group)
    blob = pack(expert, g)
    assert len(blob) == g.blob_bytes
    again = unpack(blob, g)
    x = np.arange(model.d_model).astype(np.int8)
    assert np.array_equal(again.gate, expert.gate) and np.array_equal(again.down, expert.down)
    assert np.array_equal(again.forward(x), expert.forward(x))
    with pytest.raises(ValueError, match="bytes"):
        unpack(blob[:-1], g)
    with pytest.raises(ValueError, match="configuration has"):
        pack(Expert.random(np.random.default_rng(0), 32, 16), g)
    with pytest.raises(ValueError, match=f"configuration has {group}"):
        pack(Expert.random(np.random.default_rng(0), model.d_model, model.d_ff, 64), g)


def test_weights_of_four_bits_take_half_of_the_bytes():
    whole, half = (Geometry(preset("server").replace(weight_group=group)) for group in (0, 64))
    assert half.weight_words == whole.weight_words and 2 * half.word_bytes == whole.word_bytes
    # Scales: a byte for 64 weights.
    assert half.scale_words * half.side_bytes * 64 == whole.weight_words * whole.word_bytes
    assert half.blob_bytes < 0.54 * whole.blob_bytes


@pytest.mark.parametrize("changes", [
    {}, {"tile_bytes": 16}, {"axi_data_bits": 32, "tile_bytes": 128},
    {"axi_data_bits": 512, "tile_bytes": 4096}])
def test_every_tile_ends_with_its_crc(changes):
    g = Geometry(preset("tiny").replace(**changes))
    plain = Geometry(g.config.replace(integrity=False))
    expert = Expert.random(np.random.default_rng(0), 64, 32)
    blob, content = pack(expert, g), pack(expert, plain)
    size, step = g.tile_bytes, g.axi_bytes
    tiles = [blob[at:at + size] for at in range(0, len(blob), size)]
    assert len(tiles) == g.tiles and b"".join(tile[:-step] for tile in tiles) == content
    for tile in tiles:
        assert tile[-step:] == zlib.crc32(tile[:-step]).to_bytes(4, "little") + bytes(step - 4)


@pytest.mark.parametrize("at", [0, 511, 512, -9, -8, -1])
def test_a_wrong_byte_is_found_in_its_tile(at):
    g = Geometry(preset("tiny"))
    blob = bytearray(pack(Expert.random(np.random.default_rng(0), 64, 32), g))
    blob[at] ^= 0x10
    with pytest.raises(CorruptTile, match="CRC-32") as caught:
        unpack(bytes(blob), g)
    assert caught.value.tile == at % len(blob) // 512
