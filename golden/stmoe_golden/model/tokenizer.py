"""Text to token ids and back, by the ``tokenizers`` library."""

import codecs
import json
from collections.abc import Sequence

from tokenizers import Tokenizer as Backend

from .error import ModelError, require

__all__ = ["END", "Stream", "Tokenizer"]

END = 0
"""``<|end|>``: precedes every document and separates them."""


def _byte_letters() -> dict[str, int]:
    """Byte of each letter that byte-level BPE writes it as.

    Printable Latin-1 characters stand for themselves, the other bytes, in order, for the characters
    from U+0100 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + i): b for i, b in enumerate(rest)}


class Tokenizer:
    """Byte-level BPE; every text round-trips.

    ``pieces``: bytes of each token, none for special ones.

    Parameters
    ----------
    text: the JSON that the library writes.
    vocab: ids must be below it.
    """

    def __init__(self, text: str, vocab: int):
        try:
            self.backend = Backend.from_str(text)
            decoder = (json.loads(text).get("decoder") or {}).get("type")
        except Exception as error:  # the library raises nothing more specific
            raise ModelError(f"tokenizer: not readable: {error}") from None
        size = self.backend.get_vocab_size()
        require(0 < size <= vocab, "tokenizer", f"has {size} tokens, the model {vocab}")
        require(decoder == "ByteLevel", "tokenizer",
                f"must be a byte-level BPE, but its decoder is {decoder!r}")
        letters, special = _byte_letters(), self.backend.get_added_tokens_decoder()
        names = [self.backend.id_to_token(i) or "" for i in range(vocab)]
        self.pieces = [b"" if i in special else bytes(letters[c] for c in name)
                       for i, name in enumerate(names)]

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, no special tokens added."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def prompt(self, text: str) -> list[int]:
        """Ids that start a document with ``text``: :data:`END`, then the text."""
        return [END, *self.encode(text)]

    def bytes(self, tokens: Sequence[int]) -> bytes:
        """What ``tokens`` stand for; special tokens for nothing."""
        return b"".join(self.pieces[t] for t in tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of ``tokens``; broken UTF-8 becomes U+FFFD."""
        return self.bytes(tokens).decode("utf-8", "replace")


class Stream:
    """Decodes tokens as they come; bytes of an unfinished character wait for the rest.

    The pieces joined, with what :meth:`flush` returns, are :meth:`Tokenizer.decode` of all tokens.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Text that ``token`` completes, often all of it, sometimes none."""
        return self.decoder.decode(self.tokenizer.pieces[token])

    def flush(self) -> str:
        """What was left of an unfinished character, as U+FFFD; then the stream starts afresh."""
        return self.decoder.decode(b"", final=True)
