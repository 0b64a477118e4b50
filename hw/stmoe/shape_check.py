"""Which run-time shapes the netlist refuses."""

from amaranth.hdl import Cat, Value

from .config import Geometry

__all__ = ["illegal_shape"]


def illegal_shape(g: Geometry, shape: Value) -> Value:
    """A bit that is set while ``shape`` (of ``shape_layout``) is one that ``g`` cannot run.

    That is: a size of 0 or beyond the generated one, less than the pipelines' turnaround, fewer
    experts than ``top_k``, more slots than the banks make, or a base that is no multiple of the
    bus width; with ``integrity``, a base or a stride that is none of ``alignment``. Whether the
    sizes fit one another is up to the host, which derives them together.
    ``group``: as the array has it, at most ``half`` where experts stream through.
    """
    widest = Geometry(g.config, g.max_d_ff)
    model = g.config.model
    limits = {
        "in_words": (2, g.in_words), "out_groups": (4, g.out_groups), "slots": (2, g.banks),
        "gu_groups": (1, widest.gu_groups), "dn_tiles": (1, widest.dn_tiles),
        "side_words": (1, widest.side_words), "blob_beats": (1, widest.blob_beats),
        "group": (0, min(widest.group, g.half)), "layers": (1, model.layers),
        "experts": (model.top_k, model.experts)}
    if g.config.dense_blobs:
        limits |= {"matrix_tiles": (1, g.in_words), "matrix_parts": (1, g.config.most_experts),
                   "matrix_beats": (1, widest.blob_beats)}
    illegal = []
    for field, (low, high) in limits.items():
        value = shape[field]
        if low:  # lint objects to comparisons that cannot be true
            illegal.append(value < low)
        if high < (1 << len(value)) - 1:
            illegal.append(value > high)
    illegal.append((shape.slots << shape.group) > g.banks)
    aligned = g.alignment if g.config.integrity else g.axi_bytes
    illegal.append(shape.base[:aligned.bit_length() - 1].any())
    if g.config.integrity:
        illegal.append(shape.stride[:aligned.bit_length() - 1].any())
    return Cat(*illegal).any()
