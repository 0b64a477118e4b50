"""``stmoe trace record`` of a Hugging Face model in a folder."""

import json
import re

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from stmoe_golden.trace import load
from stmoe_sim.record.hooks import ROUTERS


@pytest.fixture
def folder(build, tmp_path):
    home = tmp_path / "toy-olmoe"
    build("olmoe").save_pretrained(home)
    words = {str(i): i for i in range(64)}
    backend = Tokenizer(models.WordLevel(words, unk_token="0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(home)
    return home


def test_a_folder_is_recorded(stmoe, folder, tmp_path):
    (tmp_path / "text.txt").write_text("4 5 6")
    code, out, err = stmoe(
        "trace", "record", "--model", folder, "--prompt", "7 8 9", "--text",
        tmp_path / "text.txt", "--tokens", 5, "--lookahead", "-o", tmp_path / "x.npz")
    assert code == 0, err
    assert "11 tokens in 2 sequences, 3 MoE layers, 8 experts, top-2" in out
    trace = load(tmp_path / "x.npz")
    assert trace.model == "toy-olmoe" and trace.offsets.tolist() == [0, 8, 11]
    assert trace.token[:3].tolist() == [7, 8, 9] and trace.token[8:].tolist() == [4, 5, 6]
    assert trace.phase.tolist() == [0] * 3 + [1] * 8
    assert trace.lookahead.shape == (11, 3, 8) and trace.hidden is None


def refused(result, *words):
    code, out, err = result
    assert (code, out) == (2, ""), err
    messages = re.findall(r"^stmoe: error: ([^\n]+)$", err, re.MULTILINE)
    assert len(messages) == 1 and "Traceback" not in err
    assert all(word in messages[0] for word in words), err


def test_an_unknown_architecture_is_named_with_those_that_are_known(stmoe, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    refused(stmoe("trace", "record", "--model", tmp_path, "--prompt", "1", "-o",
                  tmp_path / "x.npz"), str(tmp_path), "'llama' cannot be recorded", *ROUTERS)
    assert not (tmp_path / "x.npz").exists()


def test_a_missing_model_gives_one_message(stmoe, tmp_path):
    refused(stmoe("trace", "record", "--model", tmp_path / "absent", "--prompt", "1", "-o",
                  tmp_path / "x.npz"), "absent", "cannot be loaded")
    (tmp_path / "config.json").write_text("{")
    refused(stmoe("trace", "record", "--model", tmp_path, "--prompt", "1", "-o",
                  tmp_path / "x.npz"), "cannot be loaded")


def test_a_folder_without_weights_gives_one_message(stmoe, folder, tmp_path):
    for file in folder.glob("*.safetensors"):
        file.unlink()
    refused(stmoe("trace", "record", "--model", folder, "--prompt", "1", "-o",
                  tmp_path / "x.npz"), "toy-olmoe", "cannot be loaded")


def test_a_prompt_longer_than_the_context_gives_one_message(stmoe, folder, tmp_path):
    refused(stmoe("trace", "record", "--model", folder, "--prompt", "1 " * 60, "-n", 4, "-o",
                  tmp_path / "x.npz"), "--prompt 1", "at most 44 tokens", "not 60")


def test_every_listed_architecture_is_one_that_transformers_has():
    for kind in ROUTERS:
        assert kind in transformers.CONFIG_MAPPING, kind


def test_hidden_states_are_float16(stmoe, folder, tmp_path):
    assert stmoe("trace", "record", "--model", folder, "--prompt", "1 2", "-n", 2, "--hidden",
                 "-o", tmp_path / "x.npz")[0] == 0
    assert load(tmp_path / "x.npz").hidden.dtype == np.float16
