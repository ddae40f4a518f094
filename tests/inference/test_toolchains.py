"""Makers' calls, against mocks written by hand after their samples: order, arguments, and that bytes come back right.

Nothing here is evidence of a chip; what these toolchains run is labelled `documented`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from inference import Options, UnsupportedModelError, artefacts
from inference.adapters.compiled import CompiledBackend, Kit
from inference.golden import read
from tests.inference import onnx_graphs as graphs
from tests.inference.mocked import Mocked
from tests.waiting import wait_until

if TYPE_CHECKING:
    import onnx

    from inference import Model

X: Final = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """What another test has had compiled is not taken."""
    artefacts.use(None)


@pytest.fixture
def mocked(tmp_path: Path) -> Iterator[Mocked]:
    """An engine with mocks."""
    made = Mocked(tmp_path)
    yield made
    made.engine.stop()


def once(
    mocked: Mocked, toolchain: str, model: Model, last: list[Any] | None = None, **told: Any  # noqa: ANN401 - of a Kit
) -> list[list[Any]]:
    """The calls of a model that is compiled for two rows, run once on the first card and closed: `last` ends them."""
    made = CompiledBackend(Kit("maker", toolchain, "documented", lambda: "a card", **told), mocked.engine)
    device = made.devices()[0]
    precision = next(iter(told.get("precisions", {"fp32": {}})))
    session = made.prepare(model, device, Options(batch=2, precision=precision))
    np.testing.assert_array_equal(session.run({"x": X})["y"], 2 * X)
    session.close()
    if last:
        wait_until(lambda: mocked.calls()[-1] == last)
    mocked.engine.stop()
    return mocked.calls()


def test_ascend(mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """ATC is told framework, shapes, chip and precision; pyACL loads, copies, executes and copies back."""
    told = {"fp32": {"precision_mode_v2": "origin"}}
    calls = once(mocked, "acl", imported(graphs.mul()), ["acl.rt.destroy_context"], precisions=told)
    begin = calls.index(next(one for one in calls if one[0] == "atc"))
    assert calls[begin] == [
        "atc", "framework=5", "input_shape=v1:2,3", "precision_mode_v2=origin", "soc_version=Ascend310P3",
    ]  # fmt: skip
    assert [one for one in calls[begin + 1:] if one[0] not in ("acl.init", "acl.rt.set_context")][:13] == [
        ["acl.rt.set_device"], ["acl.rt.create_context"], ["acl.mdl.load_from_file", "om"], ["acl.mdl.get_desc"],
        ["acl.rt.malloc", 24, 0], ["acl.rt.malloc", 24, 0],
        ["acl.rt.memcpy", 1], ["acl.mdl.execute", 7],
        ["acl.rt.malloc_host", 24], ["acl.rt.memcpy", 2], ["acl.rt.free_host"],
        ["acl.destroy_data_buffer"], ["acl.rt.free"],
    ]  # fmt: skip
    assert calls[-3:] == [["acl.mdl.unload"], ["acl.mdl.destroy_desc"], ["acl.rt.destroy_context"]]
    order = [one[0] for one in calls]
    assert order.index("acl.rt.set_context") < order.index("acl.rt.memcpy")


def test_biren(mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A session builds and serialises, another is initialised from that; buffers go in and out as bytes."""
    assert once(mocked, "suinfer", imported(graphs.mul())) == [
        ["pysuInferSession", 0, "suinfer.log"], ["Build", "model.onnx", {"v1": [2, 3]}, []],
        ["pysuInferSession", 0, "suinfer.log"], ["Init", "serialised"],
        ["SetInputInformation", "v1", "int8"], ["SetOutputInformation", "v2", "int8"], ["Run"],
    ]  # fmt: skip


def test_enflame(mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """The parser is told names, shapes and types, the optimizer the precision; the executable is loaded and run."""
    assert once(mocked, "tops", imported(graphs.mul()), ["release_device", "handler"], precisions={"mixed": {}}) == [
        ["device", 0, 0], ["create_parser", 1], ["set_input_names", "v1"], ["set_output_names", "v2"],
        ["set_input_shapes", "2,3"], ["set_input_dtypes", "DT_FLOAT32"], ["set_build_flag", "KFP16_MIX"],
        ["read", "model.onnx"], ["build", "network"], ["save_executable", "model.exec"], ["device left"],
        ["set_device", 0, 0], ["load_tops_executable", "executable"], ["run", 1, 4], ["release_device", "handler"],
    ]  # fmt: skip


def test_iluvatar(mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """The parser fills a network, the builder makes a plan of it, which runs on memory of the card that is freed."""
    assert once(mocked, "ixrt", imported(graphs.mul()), ["cudaFree", 1001], precisions={"fp16": {}}) == [
        ["Logger", 2], ["Builder"], ["create_network", 1], ["create_builder_config"], ["OnnxParser"],
        ["parse_from_file", "model.onnx"], ["set_flag", "FP16"], ["build_serialized_network"],
        ["cudaSetDevice", 0], ["Logger", 2], ["Runtime"], ["deserialize_cuda_engine", "plan"],
        ["create_execution_context"], ["cudaMalloc", 24], ["cudaMalloc", 24],
        ["cuMemcpyHtoD", 24], ["execute_v2", 2], ["cuMemcpyDtoH", 24], ["cudaFree", 1000], ["cudaFree", 1001],
    ]  # fmt: skip


def test_cambricon(mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A network of fixed inputs is built and written; a queue of the card runs it."""
    assert once(mocked, "magicmind", imported(graphs.mul())) == [
        ["Parser", "kOnnx"], ["parse", "model.onnx"], ["get_input", 0], ["set_dimension", [2, 3]],
        ["parse_from_string", '{"precision_config": {"precision_mode": "force_float32"}}'],
        ["build_model", "model"], ["serialize_to_file", "model.mm"],
        ["deserialize_from_file", "model"], ["active", 0], ["create_i_engine", "MLU"], ["create_queue"],
        ["create_inputs"], ["from_numpy", "float32"], ["to", 0], ["enqueue", 1], ["sync"],
    ]  # fmt: skip


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rockchip(precision: str, mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Compiled for the chip, for int8 by golden inputs in pieces of two rows; the board's runtime takes the file."""
    model = imported(graphs.mul())
    calls = once(mocked, "rknn", model, ["lite release"], precisions={precision: {}}, options={"soc": "rk3588"})
    build = calls.pop(next(at for at, one in enumerate(calls) if one[0] == "build"))
    assert calls == [
        ["config", {"target_platform": "rk3588"}], ["load_onnx", ".onnx"], ["export_rknn", "model.rknn"], ["release"],
        ["load_rknn", "rknn"], ["init_runtime"], ["inference", ["nchw"], ["float32"]], ["lite release"],
    ]  # fmt: skip
    assert model.golden is not None
    rows = read(model.golden).inputs["x"]
    pieces = [[rows[at:at + 2].tolist()] for at in range(0, len(rows), 2)]
    assert build == ["build", precision == "int8", pieces if precision == "int8" else []]


def test_without_feeds_nothing_is_calibrated(mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Ranges that nobody has measured would be made up."""
    kit = Kit("maker", "rknn", "documented", lambda: "a card", precisions={"int8": {}}, options={"soc": "rk3588"})
    made = CompiledBackend(kit, mocked.engine)
    bare = replace(imported(graphs.mul()), golden=None)
    with pytest.raises(UnsupportedModelError, match="int8 needs calibration data: add a calibration"):
        made.prepare(bare, made.devices()[0], Options(batch=2, precision="int8"))
    with pytest.raises(UnsupportedModelError, match="can be asked for int8, not for bf16"):
        made.prepare(bare, made.devices()[0], Options(batch=2, precision="bf16"))


@pytest.mark.parametrize("toolchain", ["ixrt", "tops", "magicmind"])
def test_a_precision_that_is_not_passed_on_is_refused(
    toolchain: str, mocked: Mocked, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """Never computed in another one instead."""
    kit = Kit("maker", toolchain, "documented", lambda: "a card", precisions={"int8": {}})
    made = CompiledBackend(kit, mocked.engine)
    with pytest.raises(UnsupportedModelError, match="int8"):
        made.prepare(imported(graphs.mul()), made.devices()[0], Options(batch=2, precision="int8"))


@pytest.mark.parametrize(("mood", "says"), [
    ("crash", r"suinfer died compiling it: the engine \(pid [0-9]+\) died of SIGABRT"),
    ("hang", r"suinfer did not end compiling within 3 s; it was stopped"),
    ("refuse", r"suinfer does not compile it: RuntimeError: Build answered 1"),
])
def test_a_compiler_that_fails_is_named_and_costs_nothing_else(
    mood: str, says: str, tmp_path: Path, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """It crashes, hangs or refuses in a process of its own: the engine of the sessions is the same as before."""
    mocked = Mocked(tmp_path, open_s=3.0, HEADRACE_MOCK=mood)
    made = CompiledBackend(Kit("maker", "suinfer", "documented", lambda: "a card"), mocked.engine)
    device = made.devices()[0]
    before = mocked.engine.pid()
    with pytest.raises(UnsupportedModelError, match=says):
        made.prepare(imported(graphs.mul()), device, Options(batch=2))
    assert mocked.engine.pid() == before
    assert mocked.names().count("Build") == 1
    mocked.engine.stop()
