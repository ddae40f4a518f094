"""Importing foreign models: what is accepted, what is refused and in which words, and that the store keeps faith."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference import InvalidModelError
from inference.devices import choose
from inference.golden import read
from inference.limits import MIB, Limits
from inference.model import digests, import_model, load_model
from tests.inference import onnx_graphs as graphs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inference import Model

MANIFEST = """
name: doubler
version: "1.0.0"
inputs:
  - {name: x, dtype: float32, shape: [null, 3], unit: bar, meaning: pressures, columns: [P1, {tag: P2, unit: bar}, P3]}
outputs:
  - {name: y, unit: bar, meaning: twice as much, limit: 1}
window: {kind: hop, step_s: 0.5, length: 1, hop_s: 1.0, resample: last}
quality: {uncertain: accept, bad: hold, hold_s: 5.0}
"""


def package(folder: Path, manifest: str | None = MANIFEST, files: dict[str, bytes] | None = None) -> Path:
    """A package of the doubling model."""
    folder.mkdir()
    onnx.save_model(graphs.mul(), folder / "model.onnx")
    if manifest is not None:
        (folder / "model.yaml").write_text(manifest, encoding="utf-8")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    return folder


def zipped(source: Path, target: Path, prefix: str = "") -> Path:
    """The folder as a zip."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in source.iterdir():
            archive.write(path, prefix + path.name)
    return target


def empty(store: Path) -> bool:
    """True if nothing at all is left in the store: neither a model nor the rest of an attempt."""
    return digests(store) == () and [p.name for p in store.iterdir()] == ["sha256"]


def test_a_package_states_its_contract(tmp_path: Path, store: Path) -> None:
    """Units, meanings, columns, window and quality of model.yaml are in the model."""
    model = import_model(package(tmp_path / "p"), store)
    assert (model.name, model.version, model.opset, model.ir_version, model.nodes) == ("doubler", "1.0.0", 17, 8, 1)
    assert (model.inputs[0].unit, model.inputs[0].meaning, model.inputs[0].shape) == ("bar", "pressures", (None, 3))
    manifest: Any = model.manifest
    assert [column["tag"] for column in manifest["inputs"][0]["columns"]] == ["P1", "P2", "P3"]
    assert manifest["window"] == {"kind": "hop", "step_s": 0.5, "length": 1, "hop_s": 1.0, "resample": "last"}
    assert manifest["outputs"][0]["limit"] == 1


def test_the_packing_does_not_matter(tmp_path: Path, store: Path) -> None:
    """Folder, zip and zip of a folder with the same content are one model with one digest, stored once."""
    source = package(tmp_path / "p")
    first = import_model(source, store)
    assert import_model(source, store) == first
    assert import_model(zipped(source, tmp_path / "a.zip"), store) == first
    assert import_model(zipped(source, tmp_path / "b.zip", "doubler-1.0/"), store) == first
    assert load_model(store, first.digest) == first
    assert digests(store) == (first.digest,)


def test_the_digest_is_that_of_sha256sum(tmp_path: Path, store: Path) -> None:
    """A person can compute the digest from the files: the hash of the lines sha256sum prints."""
    source = package(tmp_path / "p")
    lines = "".join(f"{hashlib.sha256((source / n).read_bytes()).hexdigest()}  {n}\n"
                    for n in ("model.onnx", "model.yaml"))
    model = import_model(source, store)
    assert model.digest == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    assert model.sm3.startswith("sm3:")
    assert len(model.sm3) == len("sm3:") + 64


def test_a_bare_graph_gets_golden_vectors(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """Without a package the contract is read from the graph, and the CPU reference makes the vectors."""
    model = imported(graphs.maps())
    assert (model.name, model.manifest) == ("model-under-test", {})
    assert model.golden is not None
    golden = read(model.golden)
    assert "onnxruntime" in golden.made_by
    assert set(golden.outputs["y"][0]) == {0, 7}


def test_external_data_comes_along(tmp_path: Path, store: Path) -> None:
    """Weights beside a bare graph are imported with it and belong to its digest."""
    onnx.save_model(graphs.mlp(), tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    model = import_model(tmp_path / "m.onnx", store)
    assert (model.path.parent / "m.bin").is_file()
    session = choose(["cpu"], model).session
    assert session.run({"x": np.zeros((2, 16), np.float32)})["y"].shape == (2, 4)
    (tmp_path / "m.bin").write_bytes(bytes((tmp_path / "m.bin").stat().st_size))
    assert import_model(tmp_path / "m.onnx", store).digest != model.digest


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", ""])
def test_external_data_never_leaves_the_package(location: str, tmp_path: Path, store: Path) -> None:
    """A graph that points outside its folder is refused by name, though the file is there."""
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    proto = graphs.mul()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InvalidModelError, match="outside the package"):
        import_model(folder / "m.onnx", store)
    assert empty(store)


def _foreign_operator() -> onnx.ModelProto:
    proto = graphs.mul()
    proto.graph.node[0].domain, proto.graph.node[0].op_type = "com.vendor", "Magic"
    proto.opset_import.append(helper.make_opsetid("com.vendor", 1))
    return proto


def _unknown_operator() -> onnx.ModelProto:
    proto = graphs.mul()
    proto.graph.node[0].op_type = "NoSuchThing"
    return proto


@pytest.mark.parametrize(("build", "says"), [
    (_foreign_operator, r"custom operators .*com\.vendor\.Magic"),
    (_unknown_operator, "NoSuchThing"),
    (lambda: graphs.mul(opset=999), "opset 999 is not within"),
    (lambda: graphs.mul(ir=99), "IR version 99 is newer"),
    (lambda: graphs.build([], [graphs.value("x", graphs.FLOAT, [1])], []), "no nodes"),
])
def test_what_no_runtime_takes_is_named(
    build: Callable[[], onnx.ModelProto], says: str, tmp_path: Path, store: Path
) -> None:
    """The refusal names the operator or version and says what to export instead."""
    (tmp_path / "m.onnx").write_bytes(build().SerializeToString())
    with pytest.raises(InvalidModelError, match=says):
        import_model(tmp_path / "m.onnx", store)
    assert empty(store)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08", b"PK\x03\x04 not a zip", os.urandom(4096)])
def test_garbage_is_no_model(content: bytes, tmp_path: Path, store: Path) -> None:
    """Bytes that are no model are refused and leave nothing behind."""
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InvalidModelError):
        import_model(tmp_path / "m.onnx", store)
    assert empty(store)


def test_a_cut_file_is_refused(tmp_path: Path, store: Path) -> None:
    """A transfer that broke off is refused, with the advice to transfer again."""
    data = graphs.mlp().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidModelError, match="cut off"):
        import_model(tmp_path / "m.onnx", store)


@pytest.mark.parametrize(("limits", "says"), [
    (Limits(nodes=2), "3 nodes, more than 2"),
    (Limits(graph_bytes=100), "external data"),
    (Limits(package_bytes=100), "larger than"),
    (Limits(wall_s=0.01), "longer than"),
    (Limits(memory_bytes=64 * MIB), "crashed|memory"),
])
def test_limits_hold(limits: Limits, says: str, tmp_path: Path, store: Path) -> None:
    """Nodes, bytes, time and memory have a limit, and a child that dies of one is a refusal."""
    onnx.save_model(graphs.mlp(), tmp_path / "m.onnx")
    with pytest.raises(InvalidModelError, match=says):
        import_model(tmp_path / "m.onnx", store, limits=limits)
    assert empty(store)


def test_memory_claimed_by_a_graph_is_not_given(tmp_path: Path, store: Path) -> None:
    """A few bytes that ask for 2 GiB when run get none of it where the limit is less: no vectors are made."""
    shape = graphs.constant("shape", [1 << 29], "int64")
    nodes = [graphs.node("ConstantOfShape", ["shape"], ["big"]), graphs.node("ReduceSum", ["big"], ["sum"]),
             graphs.node("Add", ["x", "sum"], ["y"])]
    outputs = [graphs.value("y", graphs.FLOAT, None)]
    proto = graphs.build(nodes, [graphs.value("x", graphs.FLOAT, [1])], outputs, [shape])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = import_model(tmp_path / "m.onnx", store, limits=replace(Limits(), memory_bytes=1536 * MIB))
    assert model.golden is None


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a\\..\\b", "C:evil"])
def test_a_zip_never_writes_outside(name: str, tmp_path: Path, store: Path) -> None:
    """Names that lead out of a zip are refused."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", graphs.mul().SerializeToString())
        archive.writestr(name, b"x")
    with pytest.raises(InvalidModelError, match="leads out of the package"):
        import_model(path, store)
    assert empty(store)


def test_a_zip_bomb_is_stopped_while_it_unpacks(tmp_path: Path, store: Path) -> None:
    """What unpacks beyond the limit is stopped by the bytes written, not by what a header claims."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(32 * MIB))
    assert path.stat().st_size < MIB
    with pytest.raises(InvalidModelError, match="larger than 4 MiB unpacked"):
        import_model(path, store, limits=Limits(package_bytes=4 * MIB))
    assert empty(store)


def test_links_are_refused(tmp_path: Path, store: Path) -> None:
    """A symbolic link in a folder or a zip is no content."""
    folder = package(tmp_path / "p")
    (folder / "golden.npz").symlink_to("/etc/hostname")
    with pytest.raises(InvalidModelError, match="link"):
        import_model(folder, store)
    info = zipfile.ZipInfo("golden.npz")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("model.onnx", graphs.mul().SerializeToString())
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(InvalidModelError, match="link"):
        import_model(tmp_path / "p.zip", store)


def test_stray_files_are_refused(tmp_path: Path, store: Path) -> None:
    """A file nothing refers to would change the digest unseen; documents are welcome."""
    with pytest.raises(InvalidModelError, match=r"nothing refers to: \.hidden; remove"):
        import_model(package(tmp_path / "p", files={".hidden": b""}), store)
    assert import_model(package(tmp_path / "q", files={"README.md": b"", "LICENSE": b""}), store).name == "doubler"


def test_golden_vectors_are_never_unpickled(tmp_path: Path, store: Path) -> None:
    """Pickled objects in golden.npz are refused, and vectors for other tensors are named."""
    folder = package(tmp_path / "p")
    pickled: dict[str, Any] = {"in/x": np.array([{}], dtype=object)}
    np.savez(folder / "golden.npz", **pickled)
    with pytest.raises(InvalidModelError, match="plain numpy arrays"):
        import_model(folder, store)
    misnamed: dict[str, Any] = {"in/x": np.zeros((1, 3), np.float32), "out/z": np.zeros(1)}
    np.savez(folder / "golden.npz", **misnamed)
    with pytest.raises(InvalidModelError, match=r"(?s)no out/y.*has out/z"):
        import_model(folder, store)


def test_every_mistake_of_the_manifest_is_said_at_once(tmp_path: Path, store: Path) -> None:
    """A person mends model.yaml in one go: unknown keys, missing ones and wrong types come together."""
    text = MANIFEST.replace("meaning: pressures", "meening: pressures").replace('"1.0.0"', "1.0").replace(
        "hop_s: 1.0", "hop_s: -1").replace("hold_s: 5.0", "hold: 5.0")
    with pytest.raises(InvalidModelError) as caught:
        import_model(package(tmp_path / "p", text), store)
    said = str(caught.value)
    for part in ("inputs[0].meening: unknown key", "version", "quote it", "window.hop_s", "quality.hold: unknown key"):
        assert part in said


@pytest.mark.parametrize(("old", "new", "says"), [
    ("name: x", "name: z", "which the graph does not have; it has: x"),
    ("dtype: float32", "dtype: float64", "float32 in the graph but float64"),
    ("[null, 3]", "[null, 4]", "has shape"),
    (", P3]", "]", "3 values a row but model.yaml names 2 columns"),
    ("version:", "name: again\nversion:", "given twice"),
    ("hold_s: 5.0", "max_gap_s: 5.0", "hold_s belongs to"),
    ("name: doubler", "name: Doubler!", "pattern"),
    ("name: doubler", "name: [", "no YAML"),
])
def test_a_manifest_that_contradicts_the_graph_is_refused(
    old: str, new: str, says: str, tmp_path: Path, store: Path
) -> None:
    """The manifest may add to the graph, never contradict it."""
    assert old in MANIFEST
    with pytest.raises(InvalidModelError, match=says):
        import_model(package(tmp_path / "p", MANIFEST.replace(old, new)), store)
    assert empty(store)


def test_aliases_are_read_but_do_not_multiply(tmp_path: Path, store: Path) -> None:
    """An alias is a value like any other; nine levels of nine aliases are refused, and so is a value in itself."""
    shared = MANIFEST.replace("name: y, unit: bar", "name: y, unit: &u bar")
    shared = shared.replace("meaning: twice as much", "meaning: *u")
    model = import_model(package(tmp_path / "p", shared), store)
    assert model.outputs[0].meaning == "bar"
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    for number, text in enumerate((bomb, "a: &a [*a]\n")):
        with pytest.raises(InvalidModelError, match=r"aliases are written out|within themselves"):
            import_model(package(tmp_path / f"bomb{number}", text), store)


def test_a_changed_store_is_not_run(tmp_path: Path, store: Path) -> None:
    """One flipped bit on the disk and the model is refused; so is a digest that is none, or unknown."""
    model = import_model(package(tmp_path / "p"), store)
    data = bytearray(model.path.read_bytes())
    data[-1] ^= 1
    model.path.write_bytes(data)
    with pytest.raises(InvalidModelError, match="has changed on the disk"):
        load_model(store, model.digest)
    with pytest.raises(InvalidModelError, match="import it first"):
        load_model(store, "sha256:" + "0" * 64)
    with pytest.raises(InvalidModelError, match="is no digest"):
        load_model(store, "sha256:../../etc")
