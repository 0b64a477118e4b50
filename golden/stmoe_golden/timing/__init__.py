"""Fast timing model of the machine."""

from . import arrays  # compiled code's view of state.Arrays

__all__ = ["arrays"]
