"""Files that are there whole or not at all."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from stmoe.config import ConfigError

__all__ = ["check_writable", "write_bytes", "write_json", "write_text"]


def check_writable(option: str, path: Path) -> None:
    """Before hours of work: :class:`ConfigError` unless ``path`` can become a file."""
    if path.is_dir():
        raise ConfigError(option, str(path), "a file, not a folder")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(option, str(path), f"a file in a folder that can be written; {folder} "
                                             "cannot")


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace ``path`` in one step; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write or replace a JSON file in one step; NaN and infinities are refused."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
