"""NVIDIA's `tritonclient[http]`, unchanged, against our running API: every call that has a meaning here.

`python -m bench.triton_client` makes an environment for the client, whose packages contradict ours, starts a box that
offers five models and runs `triton_calls.py` there; the exit status says whether every answer was right.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from onnx import TensorProto

from bench import onnx_models
from bench.environments import TOP, interpreter
from bench.offered import offered


def main() -> int:
    """0 when all is well."""
    python = interpreter("tritonclient")
    models = {
        "mlp": onnx_models.mlp(),
        "half": onnx_models.twice(TensorProto.FLOAT16),
        "whole": onnx_models.twice(TensorProto.INT64),
        "double": onnx_models.twice(TensorProto.DOUBLE),
        "echo": onnx_models.echo(),
    }
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, offered(Path(folder) / "box", models) as box:
        calls = [str(python), "-I", str(TOP / "bench" / "triton_calls.py"), f"127.0.0.1:{box.port}", box.token]
        return subprocess.run(calls, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
