"""The one error of the language model."""

__all__ = ["ModelError", "require"]


class ModelError(ValueError):
    """A file, tensor or argument is wrong; the message names it, the value and the limit."""


def require(good: bool, name: str, text: str) -> None:
    """:class:`ModelError` of ``name: text`` unless ``good``."""
    if not good:
        raise ModelError(f"{name}: {text}")
