"""Makes the environments in which makers' runtimes are tried, each by itself: two ONNX Runtimes destroy each other.

Standard library only; uv comes with `make setup`.
"""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Environment:
    """One maker's runtime and what it needs."""

    name: str
    python: str
    packages: tuple[str, ...]


ENVIRONMENTS: Final = (
    Environment("openvino", "3.11", ("onnxruntime-openvino==1.24.1",)),
    Environment("cann", "3.11", ("onnxruntime-cann==1.24.4", "numpy<2")),
)


def main() -> None:
    """Make what is not there yet; what is there stays as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path, help="the project's own environment, which has uv")
    parser.add_argument("folder", type=Path, help="where the environments are made")
    arguments = parser.parse_args()
    uv = (str(arguments.venv.absolute() / "bin" / "uv"), "--no-config", "--quiet")
    for one in ENVIRONMENTS:
        place = arguments.folder / one.name
        whole = place / "whole"
        if whole.exists():
            continue
        subprocess.run([*uv, "venv", "--clear", "--python", one.python, place], check=True)
        python = str(place / "bin" / "python")
        subprocess.run([*uv, "pip", "install", "--python", python, *one.packages], check=True)
        whole.touch()


if __name__ == "__main__":
    main()
