"""A free batch on a device of fixed shapes: answered in buckets where rows are independent, never wrongly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import pytest

import inference
from inference import InputError, Options, Placement, UnsupportedModelError, artefacts
from inference.adapters import bucketing
from inference.adapters.ort_plugin import PluginBackend
from inference.devices import choose
from inference.model import import_model
from inference.vendors.simnpu import PLUGIN
from tests.inference import onnx_graphs as graphs
from tests.inference.plugins import needs_compiler

if TYPE_CHECKING:
    from inference import Model, Tensor
    from inference.adapters.batching import Call

Importer = Callable[["onnx.ModelProto"], "Model"]
PLACED: Final = Placement(1, 1)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A folder in which artefacts are kept while the test runs."""
    folder = tmp_path / "artefacts"
    artefacts.use(folder)
    yield folder
    artefacts.use(None)


def unnamed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a free first dimension that has no name, as scikit-learn's exporters write it."""
    for one in (*proto.graph.input, *proto.graph.output):
        one.type.tensor_type.shape.dim[0].ClearField("dim_param")
    return proto


def same(model: Model, backend: inference.Backend, rows: int) -> None:
    """The backend's first device answers so many rows as the CPU does."""
    x = np.random.default_rng(rows).normal(size=(rows, 16)).astype(np.float32)
    session = backend.prepare(model, backend.devices()[0], Options())
    given, wanted = (one.run({"x": x})["y"] for one in (session, choose(["cpu"], model).session))
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given.astype(float), wanted.astype(float), atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("rows", [1, 3, 64, 70])
@pytest.mark.parametrize("named", [True, False])
def test_a_device_of_fixed_shapes_takes_any_number_of_rows(rows: int, imported: Importer, *, named: bool) -> None:
    """SimNPU has no free dimensions; a free batch, with a name or without, runs there with every node."""
    made = inference.backend("simnpu")
    model = imported(graphs.mlp() if named else unnamed(graphs.mlp()))
    same(model, made, rows)
    session = made.prepare(model, made.devices()[0], Options())
    assert (session.placement.on_device, session.placement.fallen_back) == (3, ())


@needs_compiler
def test_weights_in_files_of_their_own_go_along(tmp_path: Path, store: Path) -> None:
    """A model with external data whose free dimension has no name is copied with its weights, for as long as needed."""
    path = tmp_path / "big.onnx"
    onnx.save_model(unnamed(graphs.mlp()), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    same(import_model(path, store), inference.backend("simnpu"), 5)


@needs_compiler
def test_what_was_compiled_is_found_again(kept: Path, imported: Importer) -> None:
    """One artefact for each size; a second session makes none, another precision makes its own."""
    made, model = inference.backend("simnpu"), imported(graphs.mlp())
    same(model, made, 5)
    first = {path: path.stat().st_ino for path in kept.glob("*/artefact.onnx")}
    assert len(first) == len(PLUGIN.provider.buckets)
    same(model, made, 70)
    assert {path: path.stat().st_ino for path in kept.glob("*/artefact.onnx")} == first
    made.prepare(model, made.devices()[0], Options(precision="fp16"))
    assert len(list(kept.glob("*/artefact.onnx"))) == 2 * len(first)


@needs_compiler
def test_an_artefact_of_another_toolchain_is_not_used(kept: Path, imported: Importer) -> None:
    """One that is whole but that the device does not take is dropped, and the model itself is opened."""
    made, model = inference.backend("simnpu"), imported(graphs.mlp())
    same(model, made, 1)
    folder = artefacts.kept()
    assert folder is not None
    before = sorted(kept.glob("*/artefact.onnx"))
    keys = [(path.parent / "entry.json").read_bytes() for path in before]
    for path, stated in zip(before, keys, strict=True):
        old = path.read_bytes()
        changed = old.replace(b"SIMNPU1", b"SIMNPU9")
        path.write_bytes(changed)
        before_, after = (hashlib.sha256(content).hexdigest().encode() for content in (old, changed))
        (path.parent / "entry.json").write_bytes(stated.replace(before_, after))
    same(model, made, 3)
    assert not list(kept.glob("*/artefact.onnx"))


@needs_compiler
def test_a_disk_that_takes_nothing_costs_no_answer(tmp_path: Path, imported: Importer) -> None:
    """Where artefacts cannot be kept, the model is made ready all the same."""
    (tmp_path / "file").write_text("no folder")
    artefacts.use(tmp_path / "file")
    try:
        same(imported(graphs.mlp()), inference.backend("simnpu"), 3)
    finally:
        artefacts.use(None)


@needs_compiler
def test_other_free_dimensions_are_named(imported: Importer) -> None:
    """Only the first counts rows: a model with another one is refused, with the input and the axis."""
    free = graphs.build([graphs.node("Neg", ["x"], ["y"])], [graphs.value("x", graphs.FLOAT, ["N", "T"])],
                        [graphs.value("y", graphs.FLOAT, ["N", "T"])])
    made = PluginBackend(PLUGIN)
    with pytest.raises(UnsupportedModelError, match=r"dimensions other than the first are free: 'x' \(1\)"):
        made.prepare(imported(free), made.devices()[0], Options())


def tried(
    model: Model, compute: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], refused_from: int = 99
) -> tuple[Any, list[int]]:
    """A session on a device that takes fixed sizes below `refused_from`, and the sizes that were opened."""
    opened: list[int] = []

    def open_at(size: int) -> tuple[Call, Placement]:
        if size >= refused_from:
            message = f"no tiling fits {size}"
            raise UnsupportedModelError(message)
        opened.append(size)

        def call(feeds: dict[str, Tensor]) -> list[Tensor]:
            assert len(feeds["x"]) == size
            return [compute(feeds["x"].astype(np.float32))]

        return call, PLACED

    return bucketing.session(model, (1, 4), open_at), opened


X: Final = np.arange(12, dtype=np.float32).reshape(6, 2)


def test_rows_that_know_each_other_run_alone(imported: Importer) -> None:
    """Filled up, each would see rows that nobody sent; one by one, the answer is that of the row."""
    session, _ = tried(imported(graphs.mixed_batch()), lambda x: x / x.sum(axis=0))
    assert (session.batching.mode, session.batching.size) == ("sliced", 1)
    np.testing.assert_array_equal(session.run({"x": X + 1})["y"], np.ones((6, 2)))


def test_a_device_that_refuses_more_rows_runs_them_alone(imported: Importer) -> None:
    """The reason is kept, and the answers are right."""
    session, opened = tried(imported(graphs.refused_batch()), lambda x: x, refused_from=4)
    assert opened == [1]
    assert "refused with more rows than one: no tiling fits 4" in session.batching.reason
    np.testing.assert_array_equal(session.run({"x": X})["y"], X)


def test_what_counts_no_rows_is_refused(imported: Importer) -> None:
    """A mean over all rows cannot be filled up: not by what the trial shows, and not where the package says so."""
    model = imported(graphs.whole())
    with pytest.raises(UnsupportedModelError, match="the outputs do not count rows"):
        tried(model, lambda x: x.mean(axis=0))
    with pytest.raises(UnsupportedModelError, match="counts no rows"):
        bucketing.needed(replace(model, manifest={"batch": "whole"}), ("static",))


def test_what_could_not_be_tried_is_never_filled_up(imported: Importer) -> None:
    """Where the model takes none of our trial rows, nothing is known of its batch: rows run alone."""
    def picky(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if (x < 100).any():
            message = "out of range"
            raise InputError(message)
        return x

    session, _ = tried(imported(graphs.refused_batch()), picky)
    assert (session.batching.mode, session.batching.size) == ("sliced", 1)
    np.testing.assert_array_equal(session.run({"x": X + 200})["y"], X + 200)


@pytest.mark.parametrize(("shapes", "wanted"), [
    (("dynamic",), False), (("profile", "static"), False), (("static",), True), (("bucket",), True), ((), True),
])
def test_buckets_are_for_devices_without_free_dimensions(
    shapes: tuple[str, ...], imported: Importer, *, wanted: bool
) -> None:
    """A device that meets free dimensions is left to it; a model without any needs no buckets anywhere."""
    assert bucketing.needed(imported(graphs.mlp()), shapes) is wanted
    assert not bucketing.needed(imported(graphs.sigmoid()), shapes)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """Where buckets are looked for, noise and a file cut off are a refusal, as they are for a runtime."""
    path = tmp_path / "model.onnx"
    for content in (bytes(range(256)) * 4, graphs.mlp().SerializeToString()[:100]):
        path.write_bytes(content)
        with pytest.raises(UnsupportedModelError, match="no ONNX model"):
            bucketing.first_dimensions(path)
