"""The model of the acceptance test: the mean of a window, as a bare ONNX file that this command writes."""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from onnx import TensorProto, helper

LENGTH = 10
"""Rows of a window."""


def write(path: Path, columns: int) -> None:
    """[N, 10, columns] → one number a window. Raises OSError."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["window"], ["mean"], axes=[1, 2], keepdims=0),
         helper.make_node("Unsqueeze", ["mean", "one"], ["score"])],
        "mean",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["N", LENGTH, columns])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    onnx.save(made, path)


def main() -> None:
    """The command line's entry."""
    parser = argparse.ArgumentParser(prog="python -m examples.acceptance.model", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--columns", type=int, required=True)
    given = parser.parse_args()
    write(given.file, given.columns)


if __name__ == "__main__":
    main()
