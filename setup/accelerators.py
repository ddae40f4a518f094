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
    alone: tuple[str, ...] = ()
    """Packages that are installed without what they ask for."""


ENVIRONMENTS: Final = (
    Environment("openvino", "3.11", ("onnxruntime-openvino==1.24.1",)),
    Environment("cann", "3.11", ("onnxruntime-cann==1.24.4", "numpy<2")),
    # Another version than ours, as makers' plugins ask for.
    Environment("plugin", "3.11", ("onnxruntime==1.26.0",)),
    Environment("openvino-native", "3.11", ("openvino==2026.4.1",)),
    # PyTorch, which it asks for, is for PyTorch's own models: 4 GB that stay away.
    Environment(
        "rknn", "3.11",
        ("numpy<2", "onnx==1.18.0", "protobuf<=4.25.4", "onnxruntime==1.23.2", "psutil", "ruamel.yaml", "scipy", "tqdm",
         "opencv-python-headless<4.12", "fast-histogram", "setuptools<81"),
        alone=("rknn-toolkit2==2.5.0",),
    ),
    # What x2paddle 1.6.0 needs and does not ask for stands here; onnx as it knows it.
    Environment(
        "paddle", "3.11",
        ("paddlepaddle==3.3.1", "x2paddle==1.6.0", "onnx==1.16.2", "six", "requests", "pandas", "astor", "sympy",
         "setuptools<81"),
    ),
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
        if one.alone:
            subprocess.run([*uv, "pip", "install", "--python", python, "--no-deps", *one.alone], check=True)
        whole.touch()


if __name__ == "__main__":
    main()
