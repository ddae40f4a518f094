"""What the child does with a package, in this process: the same checks without their cage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.inspect import Report, Request, examine
from inference.limits import Limits

EXAMPLES = Path(__file__).parents[2] / "examples"


def look(source: Path, tmp_path: Path) -> Report:
    """The report on one package."""
    work = tmp_path / "work"
    work.mkdir()
    return examine(Request(source=str(source), work=str(work), limits=Limits()))


@pytest.fixture(params=["tep", "tightening"])
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example's package."""
    return Path(shutil.copytree(EXAMPLES / request.param / "package", tmp_path / "package"))


def test_a_folder_a_zip_and_a_bare_file_are_read(package: Path, tmp_path: Path) -> None:
    """The contract is the graph's, told more closely by the package; a bare file has the graph's alone."""
    folder = look(package, tmp_path).contract
    shutil.rmtree(tmp_path / "work")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", package))
    zipped = look(archive, tmp_path).contract
    shutil.rmtree(tmp_path / "work")
    bare = look(package / "model.onnx", tmp_path).contract
    assert folder is not None
    assert folder == zipped
    assert bare is not None
    assert [one.name for one in bare.inputs] == [one.name for one in folder.inputs]
    assert folder.manifest
    assert not bare.manifest


CHANGES = {
    "an unknown key": ("name:", "nmae:"),
    "a version that is missing": ("version:", "# version:"),
    "a key twice": ("name:", "name: other\nname:"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_mistaken_manifest_is_said(change: str, package: Path, tmp_path: Path) -> None:
    """What model.yaml says wrongly is refused, in words."""
    manifest = package / "model.yaml"
    old, new = CHANGES[change]
    text = manifest.read_text(encoding="utf-8")
    changed = text.replace(old, new, 1)
    if changed == text:
        pytest.fail(f"model.yaml has no {old!r}")
    manifest.write_text(changed, encoding="utf-8")
    report = look(package, tmp_path)
    assert report.contract is None
    assert report.problem


def test_what_is_no_model_is_said(package: Path, tmp_path: Path) -> None:
    """A cut file is refused, in words."""
    model = package / "model.onnx"
    model.write_bytes(model.read_bytes()[:1000])
    assert look(package, tmp_path).problem
