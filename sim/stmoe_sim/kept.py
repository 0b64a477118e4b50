"""Folders of a cache, each there whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["keep"]


def keep(home: Path, make: Callable[[Path], None]) -> None:
    """Have ``make`` fill the folder ``home``, which is there whole or not at all."""
    if home.exists():
        return
    scratch = home.with_name(f"{home.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    make(scratch)
    try:
        scratch.rename(home)
    except OSError:  # another process was faster
        shutil.rmtree(scratch)
