"""Fast timing model of the machine."""

import hashlib
import os
from pathlib import Path

import numba

# numba takes compiled code from its cache whatever has become of the functions that it calls, if
# they are in other files: so one folder for each state of them all.
_HERE = Path(__file__).parent
SOURCES = (*sorted(_HERE.glob("*.py")), _HERE.parent / "buffer" / "retention_kernel.py")
_STATE = hashlib.sha256(b"".join(file.read_bytes() for file in SOURCES))
_ROOT = _HERE if os.access(_HERE, os.W_OK) else Path.home() / ".cache" / "stmoe"
_before = numba.config.CACHE_DIR
numba.config.CACHE_DIR = str(_before or _ROOT / "__pycache__") + f"/{_STATE.hexdigest()[:16]}"
try:
    from . import arrays, machine  # compiled code's view of state.Arrays; all compiled code
finally:
    numba.config.CACHE_DIR = _before

__all__ = ["SOURCES", "arrays", "machine"]
