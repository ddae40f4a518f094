"""A model that refuses one window and dies of another, and a worker process that is given a message and no more."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx
import pytest
from onnx import TensorProto, helper
from sqlalchemy import select

from app.db import make_engine, reading, table
from app.scoring.tasks import Scorer
from app.sessions import Sessions
from tests.app.works import INPUTS, LENGTH

if TYPE_CHECKING:
    from app.db import Base
    from tests.app.works import Works

TOP = Path(__file__).parents[3]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
REFUSED, KILLS = 0.0, -1.0
"""Values of a window: the whole part 0 is refused as a division by zero, -1 overflows the quotient."""
kills = pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 traps the quotient that overflows")


def model() -> onnx.ModelProto:
    """Of x, float32 [N, 4, 2], `score` is the mean, `kind` the smallest whole number over the mean's whole part."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["score"], axes=[1, 2], keepdims=0),
        helper.make_node("Cast", ["score"], ["whole"], to=INT64),
        helper.make_node("Div", ["smallest", "whole"], ["kind"]),
    ]
    outputs = [helper.make_tensor_value_info(name, kind, ["N"]) for name, kind in (("score", FLOAT), ("kind", INT64))]
    inputs = [helper.make_tensor_value_info("x", FLOAT, ["N", LENGTH, INPUTS])]
    smallest = helper.make_tensor("smallest", INT64, [1], [-(2**63)])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [smallest])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def worker(works: Works, message: bytes) -> int:
    """Have a process of its own apply a message; how it ended."""
    file = works.folder / "message"
    file.write_bytes(message)
    return subprocess.run(
        [sys.executable, "-m", "tests.app.letters.deadly", works.url, str(works.folder / "models"), str(file)],
        check=False, cwd=TOP, timeout=120,
    ).returncode  # fmt: skip


def dies(works: Works, message: bytes) -> None:
    """A worker dies over it."""
    assert worker(works, message) == -signal.SIGFPE


def rows(works: Works, row: type[Base]) -> list[Any]:
    """Every row of a table, in the order of its key."""
    with reading(works.engine) as session:
        found = list(session.scalars(select(row).order_by(*table(row).primary_key)))
        session.expunge_all()
        return found


SCORES: Final = [
    {"name": "score", "tag": 2, "tag_name": "watch.score"},
    {"name": "kind", "tag": 3, "tag_name": "watch.kind"},
]

if __name__ == "__main__":
    _url, _models, _message = sys.argv[1:]
    Scorer(make_engine(_url), Sessions(Path(_models)), lambda: None).apply(Path(_message).read_bytes())
