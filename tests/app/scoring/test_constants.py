"""Inputs of a model that no window feeds."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto
from sqlalchemy import select

from app.db import reading
from app.scoring.tables import PredictionRow
from tests.app.works import INPUTS, LENGTH, Works
from tests.inference.onnx_graphs import FLOAT, build, node, value


def test_constants_are_fed_beside_the_windows(here: str, tmp_path: Path) -> None:
    """A scalar as it is, one a window where the model has a row of it; other constants are another run."""
    x, gain = value("x", FLOAT, ["N", LENGTH, INPUTS]), value("gain", FLOAT, [])
    offset, y = value("offset", TensorProto.INT64, ["N"]), value("score", FLOAT, ["N"])
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0), node("Mul", ["m", "gain"], ["s"]),
        node("Cast", ["offset"], ["o"], to=FLOAT), node("Add", ["s", "o"], ["score"]),
    ]  # fmt: skip
    outputs = [{"name": "score", "tag": 2, "tag_name": "watch.score"}]
    works = Works(here, tmp_path, proto=build(nodes, [x, gain, offset], [y]), spec={
        "outputs": outputs, "constants": {"gain": 2.0, "offset": 10},
    })  # fmt: skip
    other = works.put_in_force(outputs=outputs, constants={"gain": 3.0, "offset": 100})
    blocks = [works.block([1.0, 2.0], 1), works.block([1.0, 2.0], 1, version_id=other)]
    assert works.scorer.apply(works.message(1, *blocks))
    with reading(works.engine) as session:
        found = session.scalars(select(PredictionRow).order_by(PredictionRow.version_id, PredictionRow.end_time))
        assert [one.outputs["score"] for one in found] == [12.0, 14.0, 103.0, 106.0]
    works.close()
