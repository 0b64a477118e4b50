"""Files of the model: what is written comes back, what is wrong is named."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from stmoe_golden.model.error import ModelError
from stmoe_golden.model.shape import LmShape
from stmoe_golden.model.storage import load_model, save_model
from stmoe_golden.model.weights import load_checkpoint


@pytest.fixture(scope="module")
def full(model, tokens):
    return replace(model, heldout={"noise": tokens}, facts={"licence": "none", "steps": 3})


@pytest.fixture
def path(full, tmp_path):
    save_model(full, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_round_trip(full, path, tmp_path):
    again = load_model(path)
    assert again.shape == full.shape and again.facts == full.facts
    assert again.tokenizer == full.tokenizer
    for name, value in (full.tensors() | full.backbone.tensors()).items():
        found = (again.tensors() | again.backbone.tensors())[name]
        assert found.dtype == value.dtype and np.array_equal(found, value), name
    assert np.array_equal(again.heldout["noise"], full.heldout["noise"])
    found = again.expert(2, 5)
    x = np.arange(full.shape.d_model).astype(np.int8)
    assert np.array_equal(found.forward(x), full.expert(2, 5).forward(x))
    save_model(again, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def edit(path, *, tensors=None, meta=None, rehash=True):
    """Rewrite the file with some tensors or metadata replaced; None removes them."""
    from stmoe_golden.model import storage
    with safe_open(path, framework="numpy") as file:
        data = json.loads(file.metadata()["stmoe"])
        parts = {name: file.get_tensor(name) for name in file.keys()}
    for target, changes in ((parts, tensors or {}), (data, meta or {})):
        for name, value in changes.items():
            if value is None:
                del target[name]
            else:
                target[name] = value
    if rehash:
        data["hash"] = storage._digest(data, parts)
    save_file(parts, path, {"stmoe": json.dumps(data)})


def test_one_changed_weight_is_noticed(full, path):
    gate = full.gate.copy()
    gate[1, 2, 3, 4] ^= 1
    edit(path, tensors={"gate": gate}, rehash=False)
    with pytest.raises(ModelError, match=r"hash of the content is \w+, the file says \w+: damaged"):
        load_model(path)


@pytest.mark.parametrize("change, message", [
    (dict(meta={"version": 2}), "version must be 1, not 2"),
    (dict(meta={"format": "other"}), "format must be 'stmoe-model', not 'other'"),
    (dict(meta={"tokenizer": 3}), "metadata 'tokenizer' must be str, not int"),
    (dict(meta={"hash": 3}, rehash=False), "metadata 'hash' must be str, not int"),
    (dict(meta={"shape": {}}), "the model's shape lacks vocab, d_model"),
    (dict(tensors={"wq": None}), "tensor 'wq' is missing"),
    (dict(tensors={"extra": np.zeros(3)}), "unknown tensors: extra"),
    (dict(tensors={"up": np.zeros((3, 8, 16, 31), np.int8)}),
     r"tensor 'up' must have shape \[3, 8, 16, 32\], not \[3, 8, 16, 31\]"),
    (dict(tensors={"output_scale": np.ones(3)}), "'output_scale' must be float32, not float64"),
    (dict(tensors={"output_scale": np.zeros(3, np.float32)}), "'output_scale' must be positive"),
    (dict(tensors={"output_scale": np.full(3, np.nan, np.float32)}), "holds a non-finite value"),
    (dict(tensors={"router_shift": np.full(3, 64, np.uint8)}), "must be 0 to 63, not 64"),
    (dict(tensors={"heldout.noise": np.full(9, 288, np.uint16)}), "must hold ids below 288"),
    (dict(tensors={"heldout.noise": np.zeros(9, np.int32)}), r"must be uint16 \[n\], not int32"),
])
def test_wrong_content_is_named(path, change, message):
    edit(path, **change)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(caught.value).startswith(str(path))


def test_impossible_shapes_are_named(path, shape):
    values = {name: getattr(shape, name) for name in shape.__dataclass_fields__}
    edit(path, meta={"shape": values | {"heads": 3}})
    with pytest.raises(ModelError, match="d_model must be a multiple of 2 \\* heads = 6, not 32"):
        load_model(path)
    with pytest.raises(ModelError, match="top_k must be an integer of 1 to 8, not 9"):
        LmShape(**values | {"top_k": 9})
    with pytest.raises(ModelError, match="eps must be a positive number, not 0"):
        LmShape(**values | {"eps": 0})


def test_files_that_are_none(tmp_path):
    with pytest.raises(ModelError, match="absent: no such model file"):
        load_model(tmp_path / "absent")
    (tmp_path / "text").write_text("no tensors here")
    with pytest.raises(ModelError, match="text: not a readable safetensors file"):
        load_model(tmp_path / "text")
    save_file({"a": np.zeros(1)}, tmp_path / "plain")
    with pytest.raises(ModelError, match="metadata entry 'stmoe' is missing"):
        load_model(tmp_path / "plain")
    save_file({"a": np.zeros(1)}, tmp_path / "bad", {"stmoe": "{"})
    with pytest.raises(ModelError, match="is no JSON"):
        load_model(tmp_path / "bad")


def test_a_model_beyond_the_limit_is_not_written(full, tmp_path):
    large = replace(full, heldout={"noise": np.zeros(5 << 20, np.uint16)})
    with pytest.raises(ModelError, match=r"the model takes \d+ bytes, the limit is 8388608"):
        save_model(large, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_checkpoint(float_model, tmp_path, write_checkpoint):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(float_model, path)
    again = load_checkpoint(path)
    assert again.shape == float_model.shape and again.training == {"steps": 12}
    assert np.array_equal(again.down, float_model.down)
    assert np.array_equal(again.backbone.wo, float_model.backbone.wo)


@pytest.mark.parametrize("changes, message", [
    (dict(down=None), "tensor 'down' is missing"),
    (dict(meta=None), "field 'meta' is missing"),
    (dict(meta=np.array("{")), "meta is no JSON"),
    (dict(meta=np.array("[]")), "meta must be a JSON object"),
    (dict(meta=np.array(3)), "field 'meta' must be one string, not int64"),
    (dict(embed=np.zeros((3, 32), np.float32)), "tensor 'embed' must have shape"),
    (dict(final_norm=np.zeros(32)), "tensor 'final_norm' must be float32, not float64")])
def test_wrong_checkpoints_are_named(float_model, tmp_path, write_checkpoint, changes, message):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(float_model, path, **changes)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(path)


def test_no_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_checkpoint(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(ModelError, match=r"not a readable \.npz checkpoint"):
        load_checkpoint(tmp_path / "text.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ModelError, match=r"not a readable \.npz checkpoint"):
        load_checkpoint(tmp_path / "array.npy")
