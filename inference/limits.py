"""How much a foreign model package may cost us before it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. The defaults admit models of about 500 MB on a box with 8 GB."""

    package_bytes: int = GIB
    """All files together, unpacked."""
    files: int = 64
    graph_bytes: int = 512 * MIB
    """The .onnx file itself; weights beyond that belong into external data."""
    nodes: int = 100_000
    """Nodes of the graph, its subgraphs and its functions together."""
    manifest_bytes: int = 256 * KIB
    golden_bytes: int = 64 * MIB
    """Golden vectors, unpacked."""
    cpu_s: int = 120
    """CPU time of the child that opens the package."""
    wall_s: float = 180.0
    memory_bytes: int = 4 * GIB
    """Address space of that child, the interpreter and the runtime included (about 1 GiB)."""
