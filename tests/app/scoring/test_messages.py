"""Messages that are windows by themselves, from a record of the journal to a prediction."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from app.db import reading
from app.messages import Message
from app.pipelines.service import versions
from app.records import decode_columns, to_block, to_record
from app.scoring.tables import PredictionRow
from connectors import NO_TIME, Batch
from inference.window import Router
from tests.app.works import SECOND, START, Works
from tests.inference.onnx_graphs import FLOAT, build, node, value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CHANNELS = [{"name": "y", "tag": 2, "tag_name": "watch.y"}]
INPUT = {"tag": 1, "connection": 1, "use_received_time": True}


def spec(layout: str, shape: Sequence[int]) -> dict[str, Any]:
    """Of a pipeline whose windows are messages of this shape."""
    window = {"kind": "message", "length": int(np.prod(shape)), "shape": list(shape)}
    return {"window": window, "inputs": [INPUT], "layout": layout, "cells": "float32", "outputs": CHANNELS}


def made(works: Works, number: int, *messages: object) -> list[PredictionRow]:
    """What a worker stores of these, each a reading of one batch without a time of its own."""
    n, received = len(messages), START + number * SECOND
    batch = Batch(
        tags=np.ones(n, dtype=np.int64), source_time=np.full(n, NO_TIME), values=np.full(n, np.nan),
        others=dict(enumerate(messages)), status=np.zeros(n, dtype=np.uint32), received_time=received,
        alive_until=received, revision=1,
    )  # fmt: skip
    record = to_record(1, batch)
    version = versions(works.engine, [works.version])[0][works.version]
    found = Router({works.version: version.windows}).feed(1, *decode_columns(record.columns), received, received)
    blocks = tuple(to_block(key, one, "<f4") for key, one in found.items())
    assert works.scorer.apply(msgspec.msgpack.encode(Message(1, "gw", 1, number, record, blocks)))
    with reading(works.engine) as session:
        mine = select(PredictionRow).where(PredictionRow.number == number)
        rows = list(session.scalars(mine.order_by(PredictionRow.end_time)))
        session.expunge_all()
    return rows


def picture(pixels: np.ndarray[Any, Any]) -> bytes:
    """As a camera sends it."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(params=["NCHW", "NHWC"])
def camera(request: pytest.FixtureRequest, here: str, tmp_path: Path) -> Iterator[Works]:
    """A model that answers the mean of each channel, with channels where this layout has them."""
    axes, dims = ([2, 3], [3, 4, 6]) if request.param == "NCHW" else ([1, 2], [4, 6, 3])
    graph = build([node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)], [value("x", FLOAT, ["N", *dims])],
                  [value("y", FLOAT, ["N", 3])])  # fmt: skip
    works = Works(here, tmp_path, proto=graph, spec=spec(request.param, (4, 6, 3)))
    yield works
    works.close()


def test_an_image_is_answered_channel_by_channel(camera: Works) -> None:
    """Whatever layout the model has; the passport knows the window, and a picture that is none costs nothing else."""
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[2:, :, 2] = 10, 20, 60
    first, second, third = made(camera, 1, picture(pixels), b"no picture", picture(pixels[:, ::-1] + 1))
    assert first.outputs == {"y": [10.0, 20.0, 30.0]}
    assert (second.outputs, second.reason, second.status >> 30) == ({}, "wrong_type:1", 2)
    assert third.outputs == {"y": [11.0, 21.0, 31.0]}
    assert [one.sequence for one in (first, second, third)] == [1, 2, 3]
    assert len({one.input_digest for one in (first, second, third)}) == 3


@pytest.mark.parametrize(("layout", "dims", "shape"), [
    ("NC", [8], (8,)), ("NC", [8], (4, 2)), ("NTC", [8, 1], (8,)), ("NCT", [1, 8], (8,)), ("NCT", [2, 4], (4, 2)),
    ("NTC", [4, 2], (4, 2)),
])  # fmt: skip
def test_a_waveform_is_fed_in_the_model_s_layout(
    layout: str, dims: list[int], shape: tuple[int, ...], here: str, tmp_path: Path
) -> None:
    """Channels last in the message; where the model has them."""
    x, y = value("x", FLOAT, ["N", *dims]), value("y", FLOAT, ["N", *dims])
    works = Works(here, tmp_path, proto=build([node("Identity", ["x"], ["y"])], [x], [y]), spec=spec(layout, shape))
    sent = np.arange(8, dtype=np.float64).reshape(shape)
    (row,) = made(works, 1, sent)
    wanted = np.moveaxis(sent, -1, 0) if layout == "NCT" and len(shape) > 1 else sent
    assert np.asarray(row.outputs["y"]).tolist() == wanted.reshape(dims).tolist()
    works.close()
