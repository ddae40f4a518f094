"""How windows are cut, of what a plant file, a package and the model's own input say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from app.config.check import check_file
from app.config.desired import Desired
from app.config.document import DocumentError
from app.config.windows import Cut, of_messages
from app.plant.schemas import WindowEntry
from inference import TensorSpec
from tests.app.config.conftest import Check, Wrong
from tests.inference.onnx_graphs import FLOAT, build, node, value

Sizes = tuple[int | None, ...]


@pytest.mark.parametrize(("dims", "layout", "given", "shape", "made"), [
    ((8,), None, None, (8,), "NC"), ((8,), "NC", [2, 4], (2, 4), "NC"),
    ((8, 1), None, None, (8,), "NTC"), ((8, 2), None, None, (8, 2), "NTC"),
    ((2, 8), "NCT", None, (8, 2), "NCT"), ((1, 8), "NCT", None, (8,), "NCT"),
    ((None, 1), None, [16], (16,), "NTC"), ((1, None), "NCT", [16], (16,), "NCT"),
    ((None, None), None, [16, 2], (16, 2), "NTC"),
    ((6, 8, 3), None, None, (6, 8, 3), "NHWC"), ((3, 6, 8), None, None, (6, 8, 3), "NCHW"),
    ((1, 6, 8), None, None, (6, 8, 1), "NCHW"), ((6, 8, 1), None, [6, 8], (6, 8), "NHWC"),
    ((3, None, None), None, [6, 8, 3], (6, 8, 3), "NCHW"), ((5, 6, 7), "NHWC", None, (5, 6, 7), "NHWC"),
])  # fmt: skip
def test_a_message_has_the_shape_that_the_model_takes(
    dims: Sizes, layout: str | None, given: list[int] | None, shape: tuple[int, ...], made: str
) -> None:
    """Channels last in the message, wherever the model has them; what the model leaves open is said."""
    found = of_messages(TensorSpec("x", "float32", (None, *dims)), layout, given)
    assert isinstance(found, Cut)
    assert (found.shape, found.layout, found.kind) == (shape, made, "message")


@pytest.mark.parametrize(("dims", "layout", "given", "says"), [
    ((None,), None, None, "window: {shape"), ((5, 6, 7), None, None, "NHWC or NCHW"), ((8,), None, [9], "make [N, 9]"),
    ((6, 8, 3), None, [8, 6, 3], "make [N, 8, 6, 3]"), ((2, 3, 4, 5), None, None, "NHWC or NCHW"),
    ((6, 8, 3), "NC", None, "make [N, 144]"), ((8,), "NHWC", None, "make"),
])  # fmt: skip
def test_what_does_not_fit_says_so(dims: Sizes, layout: str | None, given: list[int] | None, says: str) -> None:
    """With what the model takes."""
    found = of_messages(TensorSpec("x", "float32", (None, *dims)), layout, given)
    assert isinstance(found, str)
    assert says in found


def test_a_window_of_two_dimensions_too_many_is_no_row() -> None:
    """A plant file without `kind` says it by the tags that it names."""
    assert WindowEntry(start="a").kind is None


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[str, str], Desired]:
    """Checks a plant file with a camera, a waveform and a model that takes images of 6 by 8, and what differs in it."""
    x, y = value("x", FLOAT, ["N", 3, 6, 8]), value("y", FLOAT, ["N", 3, 1, 1])
    onnx.save_model(build([node("GlobalAveragePool", ["x"], ["y"])], [x], [y]), tmp_path / "look.onnx")
    text = """\
version: 1
plant: {enterprise: acme, site: suzhou}
connections:
  - {name: station, connector: mqtt, options: {url: "mqtt://127.0.0.1:1883"}}
tags:
  - {name: camera, connection: station, datatype: any, address: "st/camera", options: {format: image}}
  - {name: torque, connection: station, address: "st/t#/t"}
  - {name: other, connection: station, datatype: array, address: "st/o#/o"}
models:
  - {name: look, path: look.onnx}
pipelines:
  - name: looking
    model: look
    window: {kind: message}
    inputs: {tags: [camera], use_received_time: true}
"""

    def run(old: str, new: str) -> Desired:
        file = tmp_path / "plant.yaml"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")
        return check_file(file, tmp_path / "models")

    return run


def test_a_pipeline_of_images_is_taken(pictures: Callable[[str, str], Desired]) -> None:
    """Nothing but the kind has to be said: the model's input shows the rest."""
    pipeline = pictures("", "").pipelines["looking"]
    assert (pipeline.kind, pipeline.shape, pipeline.layout, pipeline.length) == ("message", (6, 8, 3), "NCHW", 144)


@pytest.mark.parametrize(("old", "new", "says"), [
    ("[camera]", "[torque]", "holds float, a window holds an array or an image"),
    ("[camera]", "[camera, other]", "a message window has one input"),
    ("{kind: message}", "{kind: message, shape: [8, 6, 3]}", "messages of [8, 6, 3] make [N, 3, 8, 6]"),
    ("{kind: message}", "{kind: grid, length: 2}", "layout"),
])
def test_a_pipeline_of_images_that_cannot_be_says_why(
    old: str, new: str, says: str, pictures: Callable[[str, str], Desired]
) -> None:
    """By its line, before anything is applied."""
    with pytest.raises(DocumentError, match=re.escape(says)):
        pictures(old, new)


def test_cycles_between_two_events(check: Check, wrong: Wrong, good: str) -> None:
    """The start is named; the stop is another tag, or the end of the start."""
    one = check(good.replace("{trigger: counter}", "{start: counter}")).pipelines["tightening"]
    assert (one.kind, one.trigger, one.stop) == ("between", "counter", None)
    two = check(good.replace("{trigger: counter}", "{start: counter, stop: serial}")).pipelines["tightening"]
    assert (two.kind, two.trigger, two.stop) == ("between", "counter", "serial")
    (mistake,) = wrong(good.replace("{trigger: counter}", "{start: counter, stop: serail}"))
    assert "serail" in mistake.message
    (mistake,) = wrong(good.replace("{trigger: counter}", "{kind: between}"))
    assert "needs the tag that starts it" in mistake.message
