"""Between the host's floating point and the accelerator's integers.

Every engine that computes MoE layers in the accelerator's arithmetic, golden or RTL, uses these
functions and no others, so that equal integers give equal text.
"""

import numpy as np

__all__ = ["dequantise_output", "host_gates", "quantise_input"]


def quantise_input(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """int8 [..., d_model]: ``x / scale`` rounded half to even, saturated to -128 .. 127.

    ``x`` float32 [..., d_model], the normed input of a MoE layer; ``scale`` float32 [d_model],
    the layer's ``activation_scale``. The division is IEEE single precision.
    """
    steps = np.rint(np.asarray(x, np.float32) / np.asarray(scale, np.float32))
    return np.clip(steps, -128, 127).astype(np.int8)


def dequantise_output(y: np.ndarray, scale: float) -> np.ndarray:
    """float32 [..., d_model] of the accelerator's int16 result; ``scale`` = ``output_scale``."""
    return np.asarray(y, np.int16).astype(np.float32) * np.float32(scale)


def host_gates(router: np.ndarray, x: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Routing by the host in floating point: ids int64 and gates uint16 Q1.15, [n, top_k].

    ``router`` [expert, d_model], ``x`` [n, d_model]. Softmax over the ``top_k`` largest logits,
    lower id first among equals, each gate rounded half to even.
    """
    logits = np.asarray(x, np.float64) @ np.asarray(router, np.float64).T
    ids = np.argsort(-logits, axis=-1, kind="stable")[:, :top_k]
    chosen = np.take_along_axis(logits, ids, -1)
    share = np.exp(chosen - chosen[:, :1])
    share /= share.sum(-1, keepdims=True)
    return ids, np.rint(share * 32768).astype(np.uint16)
