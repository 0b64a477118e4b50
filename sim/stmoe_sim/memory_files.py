"""Files that the simulated memory is loaded from and dumped to."""

from pathlib import Path

import numpy as np

__all__ = ["read_dump", "read_numbers", "write_words"]


def write_words(path: Path, content: bytes, word_bytes: int) -> None:
    """Leave bytes as ``$fread`` wants them: in each word of the memory the last byte first."""
    words = np.frombuffer(content, np.uint8).reshape(-1, word_bytes)
    path.write_bytes(words[:, ::-1].tobytes())


def read_dump(path: Path, word_bytes: int) -> bytes:
    """The bytes of a file that ``$writememh`` wrote: a hexadecimal word per line."""
    digits = "".join(line.strip() for line in path.read_text().splitlines()
                     if line.strip() and line[0] not in "@/")
    words = np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, word_bytes)
    return words[:, ::-1].tobytes()


def read_numbers(path: Path) -> list[int]:
    """The words of a file that ``$writememh`` wrote, as numbers."""
    return [int(line, 16) for line in path.read_text().split() if line[0] not in "@/"]
