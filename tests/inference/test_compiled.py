"""What all compilers and frameworks share: a model fitted, an artefact kept, and nothing of a foreign graph's text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference import Options, UnsupportedModelError, artefacts, engines
from inference.adapters import fitted
from inference.adapters.compiled import CompiledBackend, Kit
from inference.devices import choose, entry, precision
from inference.model import import_model
from inference.toolchains.rknn import layers
from tests.inference import onnx_graphs as graphs
from tests.inference.mocked import Mocked

if TYPE_CHECKING:
    from inference import Model

KIT = Kit("maker", "suinfer", "documented", lambda: "a card")
Importer = Callable[[onnx.ModelProto], "Model"]


@pytest.fixture
def mocked(tmp_path: Path) -> Iterator[Mocked]:
    """An engine with mocks; artefacts are kept."""
    artefacts.use(tmp_path / "artefacts")
    made = Mocked(tmp_path)
    yield made
    made.engine.stop()
    artefacts.use(None)


def prepared(mocked: Mocked, model: Model, kit: Kit = KIT) -> Any:  # noqa: ANN401 - a session
    """For two rows."""
    made = CompiledBackend(kit, mocked.engine)
    return made.prepare(model, made.devices()[0], Options(batch=2))


def test_what_was_compiled_is_not_compiled_again(mocked: Mocked, imported: Importer) -> None:
    """The second session is made of the artefact that was kept; another option is another artefact."""
    model = imported(graphs.mul())
    for _ in range(2):
        prepared(mocked, model).close()
    assert mocked.names().count("Build") == 1
    assert mocked.names().count("Init") == 2
    prepared(mocked, model, replace(KIT, options={"soc": "another"})).close()
    assert mocked.names().count("Build") == 2


def test_an_artefact_that_is_not_taken_is_made_anew(mocked: Mocked, imported: Importer, tmp_path: Path) -> None:
    """One that the maker's runtime refuses, though its digest is right, is dropped and compiled once more."""
    model = imported(graphs.mul())
    prepared(mocked, model).close()
    kept = artefacts.kept()
    assert kept is not None
    (entry,) = (tmp_path / "artefacts").glob("[0-9a-f]*")
    stated = entry / "entry.json"
    artefact = next(one for one in entry.iterdir() if one != stated)
    artefact.write_bytes(b"no zip file")
    stated.write_bytes(stated.read_bytes().replace(*_digests(stated.read_bytes(), artefact)))
    session = prepared(mocked, model)
    assert mocked.names().count("Build") == 2
    np.testing.assert_array_equal(session.run({"x": np.ones((2, 3), np.float32)})["y"], 2)


def _digests(stated: bytes, artefact: Path) -> tuple[bytes, bytes]:
    """The digest that is stated of an artefact, and that of what is there now."""
    return json.loads(stated)["sha256"].encode(), hashlib.sha256(artefact.read_bytes()).hexdigest().encode()


def test_what_a_compiler_leaves_where_it_runs_is_gone(mocked: Mocked, imported: Importer) -> None:
    """Some write files into the folder they run in: that is not ours, and nothing of it is kept."""
    prepared(mocked, imported(graphs.mul()))
    assert not Path("left-behind.tmp").exists()


def test_an_untold_placement_counts_as_fallen_back(mocked: Mocked, imported: Importer) -> None:
    """A compiler that does not say where layers run proves nothing."""
    placement = prepared(mocked, imported(graphs.mul())).placement
    assert (placement.on_device, placement.fallen_back) == (0, ("unknown",))


def test_without_an_engine_there_is_no_device() -> None:
    """The reason names the setting, in both languages."""
    absent = CompiledBackend(KIT).absent()
    assert absent is not None
    assert CompiledBackend(KIT).devices() == ()
    assert "HEADRACE_ENGINES" in absent.reason
    assert "HEADRACE_ENGINES" in absent.reason_zh


def test_what_an_environment_lacks_is_named(tmp_path: Path) -> None:
    """The toolchain says which module is not there, and the reason which interpreter was asked."""
    mocked = Mocked(tmp_path)
    for toolchain, says in (("openvino", "No module named 'openvino'"), ("nonsense", "no toolchain 'nonsense'")):
        absent = CompiledBackend(replace(KIT, toolchain=toolchain), mocked.engine).absent()
        assert absent is not None
        assert says in absent.reason
        assert "interpreter" in absent.reason
    mocked.engine.stop()


def test_an_engine_of_our_own_is_found_by_the_vendor(tmp_path: Path) -> None:
    """What HEADRACE_ENGINES names runs there, vendor by vendor; here openvino_native, which is not installed."""
    engines.use({"openvino_native": ""})
    with pytest.raises(UnsupportedModelError, match="openvino cannot be used"):
        choose(["openvino_native"], _nothing(tmp_path))
    engines.stop()


def _nothing(tmp_path: Path) -> Model:
    onnx.save_model(graphs.mul(), tmp_path / "m.onnx")
    return import_model(tmp_path / "m.onnx", tmp_path / "store")


def test_a_precision_stands_behind_the_device(mocked: Mocked, imported: Importer) -> None:
    """`device@fp16` asks for it; a device without fp32 says what to write, and the session's precision is told."""
    kit = replace(KIT, precisions={"fp16": {}})
    made = CompiledBackend(kit, mocked.engine)
    model = imported(graphs.batch_of_one())
    with pytest.raises(UnsupportedModelError, match="can be asked for fp16, not for fp32: write maker@fp16"):
        choose(["maker"], model, find=lambda _: made)
    with pytest.raises(UnsupportedModelError, match="not for bf16"):
        choose(["maker@bf16"], model, find=lambda _: made)
    assert entry("maker:1@fp16") == ("maker:1", "fp16")
    assert precision(["maker", "cpu"], ()) == "fp32"
    assert precision(["maker@fp16", "cpu"], ()) == "fp16"


def test_no_text_of_a_graph_reaches_a_compiler(imported: Importer, tmp_path: Path) -> None:
    """Names of nodes, values, dimensions and the graph are ours; shapes are fixed, and it computes the same."""
    model = imported(graphs.odd_names())
    target = tmp_path / "fitted.onnx"
    made = fitted.write(model, target, rows=3)
    written = onnx.load_model(target)
    assert not set("/:") & set("".join(one.name for one in _border(written)))
    assert made.inputs == ({"name": "v1", "dtype": "float32", "shape": [3, 2]},)
    assert [one["shape"] for one in made.outputs] == [[3, 2]]
    assert made.nodes == ("n1",)
    assert b"plant" not in target.read_bytes()
    onnx.checker.check_model(written)
    free = fitted.write(model, target, rows=None)
    assert free.inputs[0]["shape"] == [None, 2]
    assert not any(dim.dim_param for one in _border(onnx.load_model(target)) for dim in one.type.tensor_type.shape.dim)


def _border(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output]


def test_a_text_that_could_end_a_string_is_refused(imported: Importer, tmp_path: Path) -> None:
    """Compilers write attributes into programs; one with a quote is not handed to any."""
    node = helper.make_node("Gelu", ["x"], ["y"], approximate="no'); import os #")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    path = tmp_path / "evil.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    with pytest.raises(UnsupportedModelError, match="a node 'Gelu' has texts"):
        fitted.write(replace(imported(graphs.mul()), path=path, opset=20), tmp_path / "out.onnx", rows=None)


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, None], ids=("empty", "noise", "cut off"))
def test_what_is_no_model_is_refused(content: bytes | None, imported: Importer, tmp_path: Path) -> None:
    """By its file: no compiler is started for it."""
    model = imported(graphs.mlp())
    path = tmp_path / "broken.onnx"
    path.write_bytes(model.path.read_bytes()[:200] if content is None else content)
    with pytest.raises(UnsupportedModelError, match="the file is no ONNX model"):
        fitted.write(replace(model, path=path), tmp_path / "out.onnx", rows=1)


@pytest.mark.parametrize(("opsets", "wanted"), [((None, 15), 15), ((18, None), 18), ((7, 19), 17), ((None, None), 17)])
def test_a_model_beyond_the_compiler_s_opsets_is_converted(
    opsets: tuple[int | None, int | None], wanted: int, imported: Importer, tmp_path: Path
) -> None:
    """To the nearest that it reads; one within stays."""
    fitted.write(imported(graphs.mul(17, 8)), tmp_path / "m.onnx", rows=1, opsets=opsets)
    assert onnx.load_model(tmp_path / "m.onnx").opset_import[0].version == wanted


def test_the_border_that_no_compiler_takes_is_refused(imported: Importer, tmp_path: Path) -> None:
    """Maps and sequences."""
    with pytest.raises(UnsupportedModelError, match="sequences or maps"):
        fitted.write(imported(graphs.maps()), tmp_path / "m.onnx", rows=1)


TABLE = """\
D RKNN: [18:30:12.968] 0    InputOperator      FLOAT16  CPU    \\        (4,16)       0/0/0      0   InputOperator:v1
D RKNN: [18:30:12.968] 1    Reshape            FLOAT16  CPU    (4,16)   (4,16,1,1)   0/0/0      0   Reshape:v1_rs
D RKNN: [18:30:12.968] 2    ConvRelu           FLOAT16  NPU    (4,16)   (4,8,1,1)    22/128/128 0   Conv:n1#2
D RKNN: [18:30:12.968] 3    Reshape            FLOAT16  CPU    (4,8)    (8,4)        0/0/0      0   Reshape:n2
D RKNN: [18:30:12.968] 4    Acosh              FLOAT16  CPU    (4,8)    (8,4)        0/0/0      0   Acosh:v9_x
"""


def test_layers_on_the_cpu_are_counted_but_for_moves_of_the_compiler() -> None:
    """A Reshape of the model on the CPU has fallen back, one that the compiler added has not."""
    assert layers(TABLE, ["n1", "n2"]) == [
        ["ConvRelu n1#2 on NPU", True], ["Reshape n2 on CPU", False], ["Acosh v9_x on CPU", False],
    ]  # fmt: skip
    assert layers("nothing of the kind", ["n1"]) is None
