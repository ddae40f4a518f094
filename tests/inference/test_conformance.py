"""What every vendor file is held to: right answers or an honest refusal, on every awkward kind of model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import inference
from inference import Backend, Device, InputError, Options, Session, UnsupportedModelError
from inference.adapters.tensors import finite
from inference.devices import choose
from tests.inference import onnx_graphs as graphs

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from inference import Model

ROWS = np.array([[1.0, -2.0], [3.0, 4.0], [-5.0, 0.5]], dtype=np.float32)
WIDE = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)


def _mlp(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(3)
    w1, b1, w2, b2 = (draw.normal(size=s).astype(np.float32) for s in ((16, 8), 8, (8, 4), 4))
    answer: np.ndarray[Any, Any] = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    return answer


@dataclass(frozen=True)
class Case:
    """A model, feeds, and the answers worked out without any runtime."""

    build: Callable[[], onnx.ModelProto]
    feeds: dict[str, Any]
    expected: dict[str, Any]


BIG = np.array([[2**60 + 1, -3]], dtype=np.int64)
THREE = np.ones((2, 3), dtype=np.float32)
CASES = {
    "mul": Case(graphs.mul, {"x": THREE}, {"y": 2 * THREE}),
    "opset 7": Case(lambda: graphs.mul(7, 3), {"x": THREE}, {"y": 2 * THREE}),
    "opset 21": Case(lambda: graphs.mul(21, 10), {"x": THREE}, {"y": 2 * THREE}),
    "sigmoid": Case(graphs.sigmoid, {"x": np.zeros((3, 4), np.float32)}, {"y": np.full((3, 4), 0.5, np.float32)}),
    "mlp": Case(graphs.mlp, {"x": WIDE}, {"y": _mlp(WIDE)}),
    "int64": Case(graphs.integers, {"x": BIG}, {"y": BIG + 1}),
    "scalar": Case(graphs.scalar, {"x": ROWS, "gain": np.float32(3)}, {"y": 3 * ROWS}),
    "two outputs": Case(graphs.two_outputs, {"x": ROWS}, {"low": -ROWS, "high": np.abs(ROWS)}),
    "strings": Case(graphs.labels, {"x": np.array([1, 0, 9])}, {"y": np.array(["fault", "normal", "other"], object)}),
    "maps": Case(graphs.maps, {"x": ROWS[:2]}, {"y": [{0: 1.0, 7: -2.0}, {0: 3.0, 7: 4.0}]}),
    "odd names": Case(graphs.odd_names, {"plant/x:0": ROWS}, {"out/y:0": 2 * ROWS}),
    "refused batch": Case(graphs.refused_batch, {"x": ROWS}, {"y": ROWS}),
    "mixed batch": Case(graphs.mixed_batch, {"x": ROWS}, {"y": np.ones_like(ROWS)}),
    "batch of one": Case(graphs.batch_of_one, {"x": ROWS}, {"y": -ROWS}),
    "no batch": Case(graphs.whole, {"x": ROWS}, {"y": ROWS.mean(axis=0)}),
    "old softmax": Case(graphs.old_softmax, {"x": np.zeros((2, 3, 2), np.float32)},
                        {"y": np.full((2, 3, 2), 1 / 6, np.float32)}),
}
PARTIAL = ("int64", "strings", "maps", "refused batch", "mixed batch", "no batch", "old softmax")
REFUSED = {
    ("reference", "maps"): "ZipMap", ("reference", "old softmax"): "Softmax",
    **{("webgpu", case): "webgpu:0 takes 0 of 1 nodes and leaves: " for case in ("int64", "strings", "maps")},
    **{("simnpu", case): "simnpu:0 takes [0-9]+ of [0-9]+ nodes and leaves: [A-Z]" for case in PARTIAL},
}
"""What a vendor is known not to take; anything else that it refuses is a failure."""

VENDORS = [vendor for vendor in inference.names() if inference.backend(vendor).devices()]
COMPUTING = [vendor for vendor in VENDORS if vendor != "null"]


def prepare(vendor: str, model: Model) -> Session:
    """A session on the vendor's first device."""
    made = inference.backend(vendor)
    return made.prepare(model, made.devices()[0], Options())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("vendor", COMPUTING)
def test_answers_are_right_or_refused(vendor: str, case: str, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Each device gives the answer worked out by hand, or refuses while preparing and says why."""
    model = imported(CASES[case].build())
    if (vendor, case) in REFUSED:
        with pytest.raises(UnsupportedModelError, match=REFUSED[vendor, case]):
            prepare(vendor, model)
        return
    outputs = prepare(vendor, model).run(CASES[case].feeds)
    assert list(outputs) == [spec.name for spec in model.outputs]
    for spec in model.outputs:
        equal(outputs[spec.name], CASES[case].expected[spec.name])


def equal(given: np.ndarray[Any, Any], expected: object) -> None:
    """Numbers within rounding, texts and maps exactly."""
    if isinstance(expected, list):
        assert given.dtype == object
        assert given.tolist() == expected
        return
    wanted = np.asarray(expected)
    assert given.shape == wanted.shape
    assert given.dtype.kind == wanted.dtype.kind
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-4)
    else:
        assert given.tolist() == wanted.tolist()


@pytest.mark.parametrize("vendor", inference.names())
def test_vendor_states_what_it_is(vendor: str) -> None:
    """A vendor has devices with a known level of evidence, or says why it has none."""
    made = inference.backend(vendor)
    assert isinstance(made, Backend)
    found = made.devices()
    assert bool(found) == (made.absent() is None)
    for device in found:
        assert isinstance(device, Device)
        assert device.id.partition(":")[0] == device.vendor == vendor
        assert device.evidence in {"verified-ci", "simulated", "verified-hardware", "documented"}


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(("feeds", "says"), [
    ({}, r"missing: \['x'\]"),
    ({"x": ROWS, "z": ROWS}, r"unknown: \['z'\]"),
    ({"x": THREE[0]}, r"takes shape \['any', 3\], not \[3\]"),
    ({"x": ROWS}, r"takes shape \['any', 3\], not \[3, 2\]"),
    ({"x": np.full((1, 3), 0.1)}, "without loss"),
    ({"x": np.array([["a", "b", "c"]])}, "without loss"),
])
def test_feeds_that_do_not_fit_are_named(
    vendor: str, feeds: dict[str, Any], says: str, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """Wrong names, shapes and lossy types are InputErrors before anything runs."""
    session = prepare(vendor, imported(graphs.mul()))
    with pytest.raises(InputError, match=says):
        session.run(feeds)


@pytest.mark.parametrize("vendor", COMPUTING)
def test_lossless_conversion_is_done(vendor: str, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Whole numbers of another type go in, since none of them changes."""
    outputs = prepare(vendor, imported(graphs.mul())).run({"x": np.array([[1, 2, 3]])})
    assert outputs["y"].tolist() == [[2, 4, 6]]


@pytest.mark.parametrize("vendor", COMPUTING)
def test_not_finite_is_returned_and_found(vendor: str, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A NaN of the model reaches the caller as it is, and `finite` finds it."""
    outputs = prepare(vendor, imported(graphs.not_finite())).run({"x": ROWS})
    assert np.isnan(outputs["y"]).all()
    assert finite(outputs) == {"y": False}


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_closed_session_is_a_lost_device(vendor: str, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Closing twice is safe, and a run after it asks for a new session."""
    session = prepare(vendor, imported(graphs.mul()))
    session.close()
    session.close()
    with pytest.raises(inference.DeviceLostError, match="prepare a new one"):
        session.run({"x": THREE})


@pytest.mark.parametrize("vendor", VENDORS)
def test_placement_adds_up(vendor: str, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Every node is on the device or named as fallen back; the dry run places none."""
    placement = prepare(vendor, imported(graphs.mlp())).placement
    assert placement.nodes == 3
    assert placement.on_device == (0 if vendor == "null" else 3)
    assert bool(placement.fallen_back) == (vendor == "null")


def test_the_dry_run_answers_nothing_that_looks_like_data(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Floats are NaN, integers the lowest there is, strings None, in the right shapes."""
    assert np.isnan(prepare("null", imported(graphs.mlp())).run({"x": WIDE})["y"]).tolist() == [[True] * 4] * 3
    lowest = prepare("null", imported(graphs.integers())).run({"x": BIG})["y"]
    assert lowest.tolist() == [[np.iinfo(np.int64).min] * 2]
    assert prepare("null", imported(graphs.labels())).run({"x": np.array([0, 1])})["y"].tolist() == [None, None]


@pytest.mark.parametrize(("build", "mode"), [
    (graphs.mlp, "rows"), (graphs.refused_batch, "sliced"), (graphs.mixed_batch, "sliced"),
    (graphs.batch_of_one, "sliced"), (graphs.whole, "whole"), (graphs.sigmoid, "whole"),
])
def test_a_false_batch_is_found(
    build: Callable[[], onnx.ModelProto], mode: str, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """Only a batch whose rows are computed alike alone and together is run at once."""
    session: Any = choose(["cpu"], imported(build())).session
    assert session.batching.mode == mode


def test_a_fixed_batch_takes_its_multiples(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A batch asked for is given to the runtime so many rows at a time; what does not divide is refused."""
    session = choose(["cpu"], imported(graphs.mlp()), Options(batch=2)).session
    four = np.concatenate([WIDE, WIDE[:1]])
    answer: np.ndarray[Any, Any] = session.run({"x": four})["y"]
    np.testing.assert_allclose(answer, _mlp(four), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="multiple"):
        session.run({"x": WIDE})


def test_the_order_decides_and_refusals_are_kept(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """The first device of the order that takes the model is used, and those before it say why not."""
    session, device, refusals = choice = choose(["ascend:0", "reference", "cpu", "null"], imported(graphs.maps()))
    assert device.id == "cpu"
    assert choice.requested == "ascend:0"
    assert [each.device for each in refusals] == ["ascend:0", "reference"]
    assert "ZipMap" in refusals[1].reason
    assert session.placement.on_device == 1


def test_nothing_outside_the_order_is_tried(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A pipeline that names no device that takes the model fails; there is no silent CPU and no dry run."""
    model = imported(graphs.maps())
    with pytest.raises(UnsupportedModelError, match=r"reference: .*ZipMap"):
        choose(["reference"], model)
    with pytest.raises(ValueError, match="names no device"):
        choose([], model)
