"""A mock of MagicMind's parser, after Cambricon/magicmind_cloud, buildin/python_common/framework_parser.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recorder import note

from magicmind.python.runtime import Status


class Parser:
    """Fills a network."""

    def __init__(self, kind: str) -> None:
        """Of ONNX files."""
        note("Parser", kind)

    def parse(self, _network: Any, path: str) -> Status:
        """How it went."""
        note("parse", Path(path).name)
        return Status()
