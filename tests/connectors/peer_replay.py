"""A recording as a peer for the conformance suite: what it emits is appended before the file is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from connectors import TagBinding
from connectors.replay import HEADER
from tests.connectors.peering import Peer

VARIANTS: Final = ("CSV",)


def peer(request: pytest.FixtureRequest, tmp_path: Path, variant: str = VARIANTS[0]) -> Peer:
    """A CSV file of its own."""
    del request, variant
    path = tmp_path / "recording.csv"
    path.write_text(HEADER + "\n")

    async def emit(number: float, text: str) -> None:
        with path.open("a") as file:
            file.write(f"number,1764000000000000000,{number!r},0\ntext,1764000000000000000,{json.dumps(text)},0\n")

    options = {"path": path}
    gone = {"path": tmp_path / "not there.csv"}
    return Peer(
        options,
        TagBinding(31, "number"),
        TagBinding(32, "text", "string"),
        emit,
        gone,
        ("", " number", "x" * 5000),
        ends=True,
    )
