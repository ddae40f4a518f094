"""`headrace model sign` and `verify`, and the policy at `headrace check`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from app import settings
from app.config.check import check_text
from app.config.document import DocumentError
from app.settings import Settings

Run = Callable[..., Result]
PLANT = """\
version: 1
plant: {enterprise: acme}
models:
  - {name: tightening, path: package}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A model package of one's own, in a folder."""
    target = tmp_path / "package"
    shutil.copytree(Path(__file__).parents[3] / "examples" / "tightening" / "package", target)
    return target


def _checked(tmp_path: Path, *, required: bool = False, trusted: tuple[str, ...] = ()) -> str:
    """What `headrace check` says of the plant under this policy."""
    store = tmp_path / "models"
    store.mkdir(exist_ok=True)
    settings.use(Settings(data_dir=tmp_path, require_signature=required, trusted_signers=trusted))
    try:
        check_text(PLANT, str(tmp_path / "plant.yaml"), store)
    except DocumentError as error:
        return str(error.mistakes[0].message)
    finally:
        settings.use(Settings(data_dir=tmp_path))
    return ""


def test_a_package_is_signed_and_let_in(run: Run, package: Path, tmp_path: Path) -> None:
    """Unsigned, by a stranger, by somebody trusted, and changed afterwards: the policy tells each apart."""
    assert _checked(tmp_path) == ""
    assert "is not signed" in _checked(tmp_path, required=True)
    done = run("model", "sign", str(package), "--key", str(tmp_path / "key.pem"), "--lang", "en")
    assert done.exit_code == 0, done.output
    assert "sm3:" in done.output
    verified = run("model", "verify", str(package), "--lang", "en")
    assert verified.exit_code == 0
    mine = verified.stdout.split()[-1]
    assert len(mine) == 64
    assert f"signed by {mine}, who is not in" in _checked(tmp_path, required=True)
    assert _checked(tmp_path, required=True, trusted=(mine,)) == ""
    # The store has the signature now: the model alone, by whatever name, is let in.
    (tmp_path / "package.sig").rename(tmp_path / "elsewhere.sig")
    assert _checked(tmp_path, required=True, trusted=(mine,)) == ""
    (tmp_path / "elsewhere.sig").rename(tmp_path / "package.sig")
    (package / "README.md").write_text("changed")
    assert "the signature is of other content" in _checked(tmp_path)
    refused = run("model", "verify", str(package), "--lang", "en")
    assert refused.exit_code == 1
    assert "other content" in refused.output


def test_what_cannot_be_signed_says_why(run: Run, package: Path, tmp_path: Path) -> None:
    """No model, no signature, no key that can be read."""
    (tmp_path / "bad.pem").write_text("nothing")
    for message, words in {
        "There is no signature": ("verify", str(package)),
        "does not exist": ("verify", str(tmp_path / "none")),
        "private key": ("sign", str(package), "--key", str(tmp_path / "bad.pem")),
        "cannot be written": ("sign", str(package), "--key", str(tmp_path / "none" / "k.pem")),
    }.items():
        done = run("model", *words, "--lang", "en")
        assert done.exit_code == 1, message
        assert message in done.output, message


def test_sm2_signs_as_well(run: Run, package: Path, tmp_path: Path) -> None:
    """A key that is made is of the algorithm that is asked for."""
    pytest.importorskip("gmssl_pyx")
    done = run("model", "sign", str(package), "--key", str(tmp_path / "k.pem"), "--algorithm", "sm2", "--lang", "en")
    assert done.exit_code == 0, done.output
    assert "Signed (sm2)" in done.output
    assert json.loads((tmp_path / "package.sig").read_bytes())["algorithm"] == "sm2"
    assert run("model", "verify", str(package), "--lang", "zh-CN").exit_code == 0
