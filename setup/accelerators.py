"""Makes the environments in which makers' runtimes are tried, each by itself: two ONNX Runtimes destroy each other.

Standard library only; uv comes with `make setup`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
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
    where_there: bool = False
    """Whether to do without it on a machine that has no such Python."""


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
    # The oldest and the newest Python that engines run on.
    Environment("python38", "3.8", ("onnxruntime==1.19.2", "numpy<1.25"), where_there=True),
    Environment("python313", "3.13", ("onnxruntime==1.32.0", "numpy<3"), where_there=True),
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
        interpreter = found(one.python)
        if interpreter is None and one.where_there:
            sys.stdout.write(f"{one.name}: there is no Python {one.python} on this machine; its tests are skipped\n")
            continue
        subprocess.run([*uv, "venv", "--clear", "--python", interpreter or one.python, place], check=True)
        python = str(place / "bin" / "python")
        subprocess.run([*uv, "pip", "install", "--python", python, *one.packages], check=True)
        if one.alone:
            subprocess.run([*uv, "pip", "install", "--python", python, "--no-deps", *one.alone], check=True)
        whole.touch()


def found(version: str) -> str | None:
    """An interpreter of this version that runs, on PATH or among those of pyenv; None where there is none."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(kept.glob(f"{version}.*/bin/python")))]
    for one in candidates:
        if one and not subprocess.run([one, "-I", "-c", "import venv"], check=False, capture_output=True).returncode:
            return one
    return None


if __name__ == "__main__":
    main()
