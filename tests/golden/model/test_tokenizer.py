"""Text to tokens and back, whole and as it comes."""

import numpy as np
import pytest

from stmoe_golden.model.error import ModelError
from stmoe_golden.model.tokenizer import END, Stream, Tokenizer

TEXT = "Größe ≤ 3 € — naïve 日本語 🙂\x00\n\tdef f(x):\r\n    return '\u00a0'"


@pytest.fixture(scope="module")
def tokenizer(float_model, shape):
    return Tokenizer(float_model.tokenizer, shape.vocab)


def test_every_text_comes_back(tokenizer):
    tokens = tokenizer.encode(TEXT)
    assert tokenizer.decode(tokens) == TEXT
    assert tokenizer.bytes(tokens) == TEXT.encode()
    assert tokenizer.prompt(TEXT) == [END, *tokens]
    assert tokenizer.decode([END, *tokens, END]) == TEXT


def test_decoding_is_that_of_the_library(tokenizer):
    rng = np.random.default_rng(1)
    for _ in range(50):
        tokens = rng.integers(0, tokenizer.backend.get_vocab_size(), 20).tolist()
        assert tokenizer.decode(tokens) == tokenizer.backend.decode(tokens)


def test_stream_never_shows_half_a_character(tokenizer):
    stream = Stream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode(TEXT)]
    assert "\ufffd" not in "".join(pieces) and "" in pieces
    assert "".join(pieces) + stream.flush() == TEXT


def test_stream_of_any_tokens_joins_to_their_text(tokenizer):
    rng = np.random.default_rng(2)
    for _ in range(50):
        tokens = rng.integers(0, 280, 20).tolist()
        stream = Stream(tokenizer)
        pieces = [stream.push(token) for token in tokens]
        assert "".join(pieces) + stream.flush() == tokenizer.decode(tokens)


def test_a_broken_tokenizer_is_refused(float_model):
    with pytest.raises(ModelError, match="tokenizer: not readable"):
        Tokenizer("{}", 280)
    with pytest.raises(ModelError, match="tokens, the model 100"):
        Tokenizer(float_model.tokenizer, 100)
    other = float_model.tokenizer.replace('"decoder":{"type":"ByteLevel"',
                                          '"decoder":{"type":"Fuse"')
    with pytest.raises(ModelError, match="must be a byte-level BPE"):
        Tokenizer(other.split('"decoder":')[0] + '"decoder":null,"model":'
                  + other.split('"model":')[1], 288)
