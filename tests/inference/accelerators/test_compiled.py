"""Compilers and a framework for real: RKNN's simulator, OpenVINO's blobs, Paddle; answers, precision, artefacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import inference
from inference import Options, UnsupportedModelError, artefacts, engines
from inference.check import verify
from inference.devices import choose
from inference.golden import Golden, read, write
from inference.model import import_model
from tests.inference import onnx_graphs as graphs
from tests.inference.test_conformance import CASES

if TYPE_CHECKING:
    from inference import Model
    from tests.inference.accelerators.conftest import Place

pytestmark = pytest.mark.timeout(1500)
Importer = Callable[[onnx.ModelProto], "Model"]
KITS: Final = {
    "rknnsim": ("rknn", "fp16", 2e-2), "openvino_native": ("openvino-native", "fp32", 1e-4),
    "paddle": ("paddle", "fp32", 1e-4),
}
"""Environment, precision, and what an answer may differ by, absolutely and relatively."""
REFUSED: Final = {
    "rknnsim": ("int64", "scalar", "strings", "maps", "no batch"),
    "openvino_native": ("int64", "strings", "maps"),
    "paddle": ("strings", "maps"),
}
EACH: Final = pytest.mark.parametrize("vendor", list(KITS))


TRIED: Final = {"paddle": ("mlp", "int64", "scalar", "two outputs", "refused batch", "strings", "maps")}
"""Fewer models where each takes a converter seconds; all of them elsewhere."""


@pytest.fixture
def kit(vendor: str, place: Place, tmp_path: Path) -> Iterator[str]:
    """The vendor in its environment, with artefacts kept; the entry for an order of devices."""
    environment, precision, _ = KITS[vendor]
    place(vendor, environment)
    artefacts.use(tmp_path / "artefacts")
    yield f"{vendor}@{precision}"
    artefacts.use(None)
    engines.stop()


@EACH
def test_every_model_is_answered_right_or_refused(vendor: str, kit: str, imported: Importer) -> None:
    """Answers as worked out without a runtime, within the precision's tolerance, every layer on the device."""
    within = KITS[vendor][2]
    for name in TRIED.get(vendor, tuple(CASES)):
        one = CASES[name]
        model = imported(one.build())
        if name in REFUSED[vendor]:
            with pytest.raises(UnsupportedModelError):
                choose([kit], model)
            continue
        session, device, _ = choose([kit], model)
        assert (device.id, session.placement.fallen_back) == (vendor, ()), name
        found: dict[str, Any] = dict(session.run(one.feeds))
        for output, expected in one.expected.items():
            wanted = np.asarray(expected)
            assert (found[output].shape, found[output].dtype.kind) == (wanted.shape, wanted.dtype.kind), name
            np.testing.assert_allclose(found[output], wanted, rtol=within, atol=within, err_msg=name)
        session.close()


@EACH
def test_what_was_compiled_is_kept(kit: str, imported: Importer, tmp_path: Path) -> None:
    """A second session takes the artefacts of the first: none is written anew."""
    model = imported(graphs.mlp())
    seen = []
    for _ in range(2):
        choose([kit], model).session.close()
        seen.append({one: one.stat().st_ctime_ns for one in (tmp_path / "artefacts").glob("*/artefact*")})
    assert seen[0]
    assert seen[0].keys() == seen[1].keys()
    assert [one.parent.name for one in seen[0]] == [one.parent.name for one in seen[1]]


@EACH
@pytest.mark.usefixtures("kit")
def test_the_device_says_what_computes(vendor: str) -> None:
    """SDK, version, chip, engine and Python stand in the passport; the level of evidence is no higher than true."""
    device = inference.backend(vendor).devices()[0]
    assert device.evidence == {"rknnsim": "simulated"}.get(vendor, "verified-ci")
    assert ", engine, Python 3.11." in device.backend
    assert {"rknnsim": "rknn-toolkit2 2.5.0, simulator, rk3588"}.get(vendor, vendor.partition("_")[0]) in device.backend


@EACH
def test_a_free_batch_takes_any_number_of_rows(vendor: str, kit: str, imported: Importer) -> None:
    """Also one beyond the largest size that fixed shapes were compiled for."""
    model = imported(graphs.mlp())
    rows = np.random.default_rng(4).normal(size=(70, 16)).astype(np.float32)
    answers = []
    for wanted in (["cpu"], [kit]):
        session = choose(wanted, model).session
        answers.append(session.run({"x": rows})["y"].astype(np.float64))
        session.close()
    np.testing.assert_allclose(answers[1], answers[0], rtol=KITS[vendor][2], atol=KITS[vendor][2])


def overflowing() -> onnx.ModelProto:
    """Three nodes; what lies between, 300 × 320, is more than half precision holds, and the answer is 9.6."""
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["big"]), helper.make_node("Mul", ["big", "c"], ["small"]),
        helper.make_node("Identity", ["small"], ["y"]),
    ]  # fmt: skip
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("a", "b", "c", "y")]
    graph = helper.make_graph(nodes, "overflow", value[:3], value[3:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("vendor", ["rknnsim"])
def test_an_overflow_of_half_precision_is_caught(kit: str, imported: Importer) -> None:
    """The chip would answer infinity or NaN: golden vectors fail at activation, on the simulator and not on the CPU."""
    model = imported(overflowing())
    feeds = {"a": np.full((1, 4), 300, np.float32), "b": np.full((1, 4), 320, np.float32),
             "c": np.full((1, 4), 1e-4, np.float32)}  # fmt: skip
    session = choose([kit], model).session
    assert not np.isfinite(session.run(feeds)["y"]).any()
    on_cpu: Any = choose(["cpu"], model).session.run(feeds)["y"]
    np.testing.assert_allclose(on_cpu, 9.6, rtol=1e-5)


@pytest.mark.parametrize("vendor", ["rknnsim"])
def test_it_is_asked_for_its_own_precision(kit: str, imported: Importer) -> None:
    """Without one named it is refused, since it has no fp32; the check holds fp16 to the tolerance of fp16."""
    model = imported(graphs.mlp())
    with pytest.raises(UnsupportedModelError, match="can be asked for fp16, int8, not for fp32: write rknnsim@fp16"):
        choose(["rknnsim"], model)
    session, device, _ = choose([kit], model)
    assert model.golden is not None
    assert read(model.golden).inputs
    verdict = verify(model, device, session, precision="fp16", runs=20)
    assert verdict.failures == ()


@pytest.mark.parametrize("vendor", ["openvino_native"])
@pytest.mark.usefixtures("kit")
def test_bfloat16_is_less_exact_and_asked_for_by_name(vendor: str, imported: Importer) -> None:
    """The hint reaches the compiler: fp32 is exact."""
    model = imported(graphs.mlp())
    made = inference.backend(vendor)
    x = np.random.default_rng(5).normal(size=(4, 16)).astype(np.float32)
    answers: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        session = made.prepare(model, made.devices()[0], Options(precision=precision))
        answers[precision] = session.run({"x": x})["y"]
        session.close()
    answers["cpu"] = choose(["cpu"], model).session.run({"x": x})["y"]
    np.testing.assert_allclose(answers["fp32"], answers["cpu"], atol=1e-5)
    assert np.abs(answers["bf16"] - answers["fp32"]).max() < 0.5


def picture() -> onnx.ModelProto:
    """A convolution of NCHW, and of what comes beside it a product; float32 [N, 3, 8, 8] and [N, 4] to [N, 4]."""
    draw = np.random.default_rng(6)
    nodes = [
        graphs.node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        graphs.node("Relu", ["c"], ["r"]), graphs.node("GlobalAveragePool", ["r"], ["p"]),
        graphs.node("Flatten", ["p"], ["f"]), graphs.node("Add", ["f", "beside"], ["y"]),
    ]  # fmt: skip
    values = [graphs.value("x", graphs.FLOAT, ["N", 3, 8, 8]), graphs.value("beside", graphs.FLOAT, ["N", 4])]
    weights = [graphs.constant("w", draw.normal(size=(4, 3, 3, 3)))]
    return graphs.build(nodes, values, [graphs.value("y", graphs.FLOAT, ["N", 4])], weights)


def drawn(rows: int, spread: float) -> dict[str, Any]:
    """Feeds of the same, as wide as this."""
    draw = np.random.default_rng(7)
    sizes = {"x": (rows, 3, 8, 8), "beside": (rows, 4)}
    return {name: draw.uniform(-spread, spread, size).astype(np.float32) for name, size in sizes.items()}


def packaged(folder: Path, spread: float) -> Model:
    """The same with golden vectors, and with feeds of its plant as wide as this."""
    folder.mkdir()
    onnx.save_model(picture(), folder / "model.onnx")
    feeds = drawn(6, 0.9)
    (y,) = ReferenceEvaluator(picture()).run(None, feeds)
    write(Golden(feeds, {"y": np.asarray(y)}), folder / "golden.npz")
    write(Golden(drawn(40, spread), {}), folder / "calibration.npz")
    return import_model(folder, folder.with_name("store"))


@pytest.mark.parametrize("vendor", ["rknnsim"])
@pytest.mark.usefixtures("kit")
def test_int8_is_calibrated_by_the_feeds_of_the_package(tmp_path: Path) -> None:
    """The chip's own quantiser finds ranges by them: answers come close, in steps; too narrow ones cut them off."""
    x = drawn(5, 0.8)
    model = packaged(tmp_path / "wide", 1.0)
    answers: dict[str, Any] = {}
    for wanted in ("cpu", "rknnsim@fp16", "rknnsim@int8"):
        session, device, _ = choose([wanted], model)
        assert session.placement.fallen_back == ()
        answers[wanted] = session.run(x)["y"]
        if wanted.endswith("int8"):
            assert verify(model, device, session, precision="int8", runs=20).failures == ()
        session.close()
    off = {name: np.abs(one - answers["cpu"]).max() for name, one in answers.items()}
    assert off["rknnsim@fp16"] < 0.01 < off["rknnsim@int8"] < 0.1
    # The same artefact gives the same answers.
    session = choose(["rknnsim@int8"], model).session
    np.testing.assert_array_equal(session.run(x)["y"], answers["rknnsim@int8"])
    session.close()
    session = choose(["rknnsim@int8"], packaged(tmp_path / "narrow", 0.01)).session
    assert np.abs(session.run(x)["y"] - answers["cpu"]).max() > 0.5
    session.close()
