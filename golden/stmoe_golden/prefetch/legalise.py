"""Cutting an expert's blob into legal AXI4 bursts."""

from stmoe.config import Geometry

__all__ = ["legalise"]

PAGE = 4096


def legalise(g: Geometry, address: int, beats: int) -> list[tuple[int, int]]:
    """(address, beats) of every burst that reads ``beats`` bus beats from byte ``address``.

    Bursts are as long as can be: at most ``burst_beats``, ending at every 4 KiB boundary of the
    address (AXI4, A3.4.1) and at every tile boundary of the blob.
    """
    bursts = []
    done = 0
    while done < beats:
        at = address + done * g.axi_bytes
        page = (PAGE - at % PAGE) // g.axi_bytes
        tile = (g.tile_bytes - done * g.axi_bytes % g.tile_bytes) // g.axi_bytes
        length = min(g.config.burst_beats, page, tile, beats - done)
        bursts.append((at, length))
        done += length
    return bursts
