"""A board brought to where tokens can be sent: registers, tables, router, experts."""

from collections.abc import Sequence

import numpy as np

from stmoe.config import Geometry
from stmoe_golden.predict.unit import PredictionUnit

from ..job import load_commands, setup_registers
from ..policies import Policy
from .device import Device

__all__ = ["image", "set_up"]


def image(geometry: Geometry, blobs: Sequence[tuple[int, bytes]]) -> bytes:
    """Expert memory from address 0, of the blobs of all experts in order."""
    return b"".join(blob.ljust(geometry.stride, b"\0") for _, blob in blobs)


def set_up(device: Device, policy: Policy, unit: PredictionUnit | None,
           router: np.ndarray | None = None) -> None:
    """Reset, the registers of ``policy``, and rows of ``unit``; what is in memory stays.

    ``router``: int8 [layer, expert, d_model], gate weights of the layers that route on chip.
    """
    device.reset()
    for address, value in setup_registers(device.registers, policy, Geometry(device.config)):
        device.write(next(name for name, register in device.registers.items()
                          if register["address"] == address), value)
    device.flush()
    for words in load_commands(device.geometry, unit).tolist():
        device.command(words)
    for layer, weights in enumerate(router if router is not None else ()):
        device.load_router(layer, weights)
    if device.geometry.streams_rows:
        device.write_memory(device.geometry.lexical_base, bytes(device.geometry.row_bytes))
