"""Memory is taken and given back."""

from __future__ import annotations

import types

from recorder import note

cudaError_t = types.SimpleNamespace(cudaSuccess=0)
memory: dict[int, bytearray] = {}


def cudaGetDeviceCount() -> tuple[int, int]:
    """Two cards."""
    return 0, 2


def cudaSetDevice(number: int) -> tuple[int]:
    """From here on, this card."""
    note("cudaSetDevice", number)
    return (0,)


def cudaMalloc(size: int) -> tuple[int, int]:
    """A place on the card."""
    note("cudaMalloc", size)
    place = 1000 + len(memory)
    memory[place] = bytearray(size)
    return 0, place


def cudaFree(place: int) -> tuple[int]:
    """Give it back."""
    note("cudaFree", place)
    return (0,)
