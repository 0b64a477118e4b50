"""Files that are there whole or not at all."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from stmoe.config import ConfigError

__all__ = ["check_distinct", "check_folder", "check_writable", "write_bytes", "write_json",
           "write_text"]


def _existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _special(path: Path) -> bool:
    """Whether ``path`` is a device, a pipe or a link, which are written to and never replaced."""
    return path.is_symlink() or (path.exists() and not path.is_file())


def check_writable(option: str, path: Path) -> None:
    """Before hours of work: :class:`ConfigError` unless ``path`` can become a file."""
    try:
        if path.is_dir():
            raise ConfigError(option, str(path), "a file, not a folder")
        if _special(path):
            if path.exists() and not os.access(path, os.W_OK):
                raise ConfigError(option, str(path), "one that can be written")
            return
        folder = _existing(path.absolute().parent)
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConfigError(option, str(path), "a file in a folder that can be written; "
                                                 f"{folder} cannot")
        path.exists()
    except OSError as error:
        raise ConfigError(option, str(path),
                          f"a file that can be written ({error.strerror})") from None


def check_folder(option: str, path: Path) -> None:
    """As :func:`check_writable`, for a folder that is there or will be made."""
    try:
        found = _existing(path.absolute())
        if not found.is_dir():
            raise ConfigError(option, str(path), f"a folder, which {found} is not")
        if not os.access(found, os.W_OK):
            raise ConfigError(option, str(path), f"a folder that can be written; {found} cannot")
    except OSError as error:
        raise ConfigError(option, str(path),
                          f"a folder to write into ({error.strerror})") from None


def check_distinct(**paths: Path | None) -> None:
    """:class:`ConfigError` if two options, named without dashes, are the same file."""
    seen: dict[Path, str] = {}
    for option, path in paths.items():
        if path is None:
            continue
        other = seen.setdefault(path.absolute(), option)
        if other != option:
            raise ConfigError(f"--{option}", str(path), f"another file than --{other}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace ``path`` in one step; its folder is made if missing.

    A device, a pipe or a link is written to as it is: /dev/null stays what it was.
    """
    try:
        if _special(path):
            path.write_bytes(data)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, data)
    except OSError as error:  # that of a full disk names no file
        error.filename = error.filename or str(path)
        raise


def _replace(path: Path, data: bytes) -> None:
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
