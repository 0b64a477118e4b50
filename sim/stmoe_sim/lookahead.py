"""Look-ahead logits of a trace: recorded, or computed again from the inputs of its layers."""

import numpy as np

from stmoe_golden.model.error import ModelError
from stmoe_golden.model.storage import load_model
from stmoe_golden.trace import Trace

__all__ = ["lookahead_of"]


def lookahead_of(trace: Trace) -> tuple[np.ndarray | None, str]:
    """Look-ahead logits, float [token, layer, expert], or None; and where they are from, or why
    there are none.

    A trace of the packaged model that holds its int8 ``hidden`` is recognised by its routing: the
    packaged router must choose the same experts on it, all of them.
    """
    if trace.lookahead is not None:
        return trace.lookahead, "recorded"
    if trace.hidden is None:
        return None, "it holds neither look-ahead logits nor the inputs of the layers"
    if trace.hidden.dtype != np.int8:
        return None, "the inputs that it holds are not those of the packaged model, which are int8"
    from .record.own import OwnModel

    try:
        model = OwnModel(load_model())
    except ModelError as error:
        return None, f"the packaged model is needed: {error}"
    shape = model.quantised.shape
    if (trace.layers, trace.num_experts, trace.hidden.shape[2]) != (shape.layers, shape.experts,
                                                                    shape.d_model):
        return None, "the inputs that it holds are not of the packaged model's shape"
    order = np.argsort(-model.logits(trace.hidden), axis=-1, kind="stable")
    if (order[..., :trace.top_k] != trace.experts).any():
        return None, "its routing is not that of the packaged model on the inputs that it holds"
    return model.lookahead(trace.hidden), "computed from the inputs by the packaged model"
