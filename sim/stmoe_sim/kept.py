"""Folders of a cache, each there whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["keep"]


def keep(home: Path, make: Callable[[Path], None]) -> None:
    """Have ``make`` fill the folder ``home``, which is there whole or not at all.

    Of several processes that want it one makes it, and the others wait.
    """
    if home.exists():
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if home.exists():
            return
        scratch = home.with_name(f"{home.name}.{os.getpid()}")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        make(scratch)
        scratch.rename(home)
