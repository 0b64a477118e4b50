"""From a configuration to files: Verilog, RTLIL, sidecar, header, documents, constraints."""

from .generate import emit_rtlil, emit_verilog, generate
from .lint import LintError, lint
from .sidecar import Sidecar

__all__ = ["LintError", "Sidecar", "emit_rtlil", "emit_verilog", "generate", "lint"]
