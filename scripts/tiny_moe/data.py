"""Documents of both domains: collected, de-duplicated, split and tokenized."""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tiny_moe.prose import clean_code, is_code, prose_of_html
from tiny_moe.sources import DOMAINS, SOURCES, Source, fetch

__all__ = ["CALIBRATION_TOKENS", "END", "END_ID", "VOCAB", "Document", "collect", "prepare",
           "read_documents", "split", "spread_windows", "train_tokenizer", "without_duplicates"]

VOCAB = 2048
END = "<|end|>"
END_ID = 0
HELD_OUT_SHARE = 0.02
CALIBRATION_TOKENS = 16384
CALIBRATION_WINDOW = 512


@dataclass(frozen=True)
class Document:
    """A text with the source and the path that it came from."""

    source: str
    domain: str
    path: str
    text: str

    @property
    def name(self) -> str:
        """Identity of the document: splits depend on it, not on the text or on any order."""
        return f"{self.source}/{self.path}"


def read_documents(source: Source, root: Path) -> list[Document]:
    """Documents of a fetched source, in the order of their paths; pages without prose, tables
    and generated files are left out."""
    documents = []
    for file in sorted(root.rglob(f"*{source.suffix}")):
        path = file.relative_to(root).as_posix()
        if path.startswith(source.leave_out) or "/tests/" in f"/{path}" or not file.is_file():
            continue
        raw = file.read_text(encoding="utf-8", errors="replace")
        if source.domain == "english":
            text = prose_of_html(raw)
        else:
            text = clean_code(raw) if is_code(raw) else ""
        if len(text) >= 200:
            documents.append(Document(source.name, source.domain, path, text))
    return documents


def without_duplicates(documents: Iterable[Document]) -> list[Document]:
    """The first of every set of identical texts; of English also the first of every paragraph of
    80 characters or more, since pages repeat boilerplate."""
    texts: set[str] = set()
    paragraphs: set[str] = set()
    kept = []
    for document in documents:
        text = document.text
        if document.domain == "english":
            lines = [line for line in text.split("\n\n")
                     if len(line) < 80 or line not in paragraphs]
            paragraphs.update(line for line in lines if len(line) >= 80)
            text = "\n\n".join(lines)
        if text in texts or len(text) < 200:
            continue
        texts.add(text)
        kept.append(Document(document.source, document.domain, document.path, text))
    return kept


def split(documents: Sequence[Document], *, seed: int, share: float = HELD_OUT_SHARE,
          ) -> tuple[list[Document], list[Document]]:
    """Training and held-out documents of one domain.

    Documents are taken in the order of a seeded hash of their name, each that still fits, until
    ``share`` of the bytes is held out; none may be more than a quarter of that, so that the
    held-out text has several origins. Order and texts of other documents do not matter to the
    order in which one is drawn.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: {share} is not between 0 and 1")

    def rank(document: Document) -> bytes:
        return hashlib.sha256(f"{seed}:{document.name}".encode()).digest()

    budget = share * sum(len(d.text.encode()) for d in documents)
    held, room = set(), budget
    for document in sorted(documents, key=rank):
        size = len(document.text.encode())
        if size <= min(room, budget / 4):
            held.add(document.name)
            room -= size
    return ([d for d in documents if d.name not in held], [d for d in documents if d.name in held])


def train_tokenizer(texts: dict[str, list[str]], *, seed: int) -> Tokenizer:
    """Byte-level BPE of :data:`VOCAB` entries on equal bytes of each domain; id 0 is :data:`END`.

    Digits stand alone; runs of spaces and of newlines may become one token, which indented code
    needs.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    size = min(sum(map(len, group)) for group in texts.values())
    mix = []
    for domain in sorted(texts):
        group = list(texts[domain])
        random.Random(seed).shuffle(group)
        room = size
        for text in group:
            mix.append(text[:room])
            room -= len(mix[-1])
    tokenizer.train_from_iterator(mix, trainer)
    return tokenizer


def collect(cache: Path) -> tuple[list[Document], list[dict[str, object]]]:
    """All documents without duplicates, and the table of sources with version, licence, files and
    bytes that were kept."""
    documents: list[Document] = []
    versions = {}
    for source in SOURCES:
        root, versions[source.name] = fetch(source, cache)
        documents += read_documents(source, root)
    documents = without_duplicates(documents)
    table: list[dict[str, object]] = []
    for source in SOURCES:
        own = [d for d in documents if d.source == source.name]
        table.append({
            "source": source.name, "domain": source.domain, "packages": list(source.packages),
            "version": versions[source.name], "licence": source.licence, "documents": len(own),
            "bytes": sum(len(d.text.encode()) for d in own)})
    return documents, table


def spread_windows(tokens: np.ndarray, *, total: int = CALIBRATION_TOKENS,
                   window: int = CALIBRATION_WINDOW) -> np.ndarray:
    """``total`` tokens as windows of ``window``, evenly spaced over ``tokens``, joined."""
    starts = np.linspace(0, len(tokens) - window, total // window).astype(int)
    return np.concatenate([tokens[start:start + window] for start in starts])


def _tokens(tokenizer: Tokenizer, documents: Sequence[Document]) -> np.ndarray:
    """uint16 ``[n]``: every document after an :data:`END`, and one :data:`END` at the very end."""
    ids = [END_ID]
    for encoding in tokenizer.encode_batch([d.text for d in documents]):
        ids += [*encoding.ids, END_ID]
    return np.array(ids, np.uint16)


def prepare(folder: Path, *, seed: int) -> dict[str, object]:
    """Fetch, clean, split and tokenize all text; return (and write) the facts as ``data.json``.

    Writes ``tokenizer.json``, ``train.npz``, ``heldout.npz`` and ``calibration.npz`` (each with a
    uint16 array per domain) into ``folder``. The same packages and seed give the same arrays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents, table = collect(folder / "sources")
    train, held = {}, {}
    for domain in DOMAINS:
        train[domain], held[domain] = split([d for d in documents if d.domain == domain], seed=seed)
        random.Random(f"{seed}:{domain}").shuffle(train[domain])
    tokenizer = train_tokenizer({d: [t.text for t in train[d]] for d in DOMAINS}, seed=seed)
    tokenizer.save(str(folder / "tokenizer.json"))
    arrays = {name: {d: _tokens(tokenizer, part[d]) for d in DOMAINS}
              for name, part in (("train", train), ("heldout", held))}
    arrays["calibration"] = {d: spread_windows(arrays["train"][d]) for d in DOMAINS}
    for name, part in arrays.items():
        np.savez(folder / f"{name}.npz", **part)  # type: ignore[arg-type]
    facts: dict[str, object] = {
        "seed": seed, "sources": table, "vocab": tokenizer.get_vocab_size(),
        "split": {d: {"train_documents": len(train[d]), "heldout_documents": len(held[d]),
                      "train_bytes": sum(len(t.text.encode()) for t in train[d]),
                      "heldout_bytes": sum(len(t.text.encode()) for t in held[d]),
                      "train_tokens": len(arrays["train"][d]),
                      "heldout_tokens": len(arrays["heldout"][d]),
                      "heldout_names": [t.name for t in held[d]]} for d in DOMAINS}}
    (folder / "data.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts
