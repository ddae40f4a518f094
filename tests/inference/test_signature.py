"""Signatures of model packages: what holds, what does not, and who is let in."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from inference import InvalidModelError, Model, signature
from inference.kit.signing import KeyFileError
from inference.model import import_model, load_model
from inference.signature import Algorithm
from tests.inference import onnx_graphs as graphs

ALGORITHMS: tuple[Algorithm, ...] = ("ed25519", "sm2")


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    """Each kind of key that there is a library for."""
    if request.param == "sm2":
        pytest.importorskip("gmssl_pyx")
    chosen: Algorithm = request.param
    return chosen


@pytest.fixture
def model(imported: Callable[..., Model]) -> Model:
    """A model in a store."""
    return imported(graphs.mul())


@pytest.fixture
def signed(model: Model, algorithm: Algorithm, tmp_path: Path) -> dict[str, Any]:
    """Its signature file."""
    key = tmp_path / "key.pem"
    signature.make(key, algorithm)
    assert key.stat().st_mode & 0o777 == 0o600
    found: dict[str, Any] = json.loads(signature.sign(model, key))
    return found


def _check(model: Model, content: dict[str, Any]) -> signature.Signature:
    return signature.check(model, json.dumps(content).encode())


def test_a_signature_holds_and_any_change_does_not(
    model: Model, signed: dict[str, Any], algorithm: Algorithm
) -> None:
    """The digests, the algorithm, key and value are all held to; each change is refused by name."""
    found = _check(model, signed)
    assert (found.algorithm, found.digest, found.sm3) == (algorithm, model.digest, model.sm3)
    other = "sm2" if algorithm == "ed25519" else "ed25519"
    flipped = signed["value"][:-2] + f"{int(signed['value'][-2:], 16) ^ 1:02x}"
    changes = {
        "digest": "sha256:" + "0" * 64, "sm3": "sm3:" + "0" * 64, "algorithm": other, "value": flipped,
        "public_key": "00" * (len(signed["public_key"]) // 2), "schema": "headrace-signature/2", "more": "x",
    }
    for member, value in changes.items():
        with pytest.raises(InvalidModelError) as refused:
            _check(model, {**signed, member: value})
        assert "signature" in str(refused.value)
    for content in (b"", b"\xff", b"[" * 100_000, b"{}", b" " * 100_000):
        with pytest.raises(InvalidModelError, match="signature file is none"):
            signature.check(model, content)


def test_a_changed_package_is_refused(
    imported: Callable[..., Model], model: Model, signed: dict[str, Any]
) -> None:
    """A signature of other content says whose it is."""
    other = imported(graphs.sigmoid())
    with pytest.raises(InvalidModelError, match="the signature is of other content: sha256:") as refused:
        _check(other, signed)
    assert model.digest in str(refused.value)
    assert other.digest in str(refused.value)
    with pytest.raises(InvalidModelError, match="does not hold"):
        _check(other, {**signed, "digest": other.digest, "sm3": other.sm3})


def test_who_is_let_in(model: Model, signed: dict[str, Any]) -> None:
    """Unsigned and strangers only where nothing is asked for; a signature that does not hold never."""
    content = json.dumps(signed).encode()
    me = _check(model, signed).fingerprint
    assert signature.admit(model, None, trusted=(), required=False) is None
    assert signature.admit(model, content, trusted=(), required=False) is not None
    found = signature.admit(model, content, trusted=(me,), required=True)
    assert found is not None
    assert found.fingerprint == me
    with pytest.raises(InvalidModelError, match="not signed"):
        signature.admit(model, None, trusted=(me,), required=True)
    with pytest.raises(InvalidModelError, match=f"signed by {me}, who is not in"):
        signature.admit(model, content, trusted=("0" * 64,), required=True)
    broken = json.dumps({**signed, "value": "00" * 64}).encode()
    for required in (True, False):
        with pytest.raises(InvalidModelError, match="does not hold"):
            signature.admit(model, broken, trusted=(me,), required=required)


def test_the_store_keeps_a_signature_beside_the_content(model: Model, signed: dict[str, Any]) -> None:
    """It is there by the digest alone, and changes no digest."""
    content = json.dumps(signed).encode()
    assert signature.kept(model) is None
    signature.keep(model, content)
    store = model.path.parents[3]
    again = load_model(store, model.digest)
    assert signature.kept(again) == content


def test_the_same_content_has_the_same_signature_however_packed(tmp_path: Path) -> None:
    """Folder and zip of the example package: one signature is good for both."""
    package = Path(__file__).parents[2] / "examples" / "tightening" / "package"
    zipped = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", package))
    signature.make(tmp_path / "key.pem", "ed25519")
    first = import_model(package, tmp_path)
    content = signature.sign(first, tmp_path / "key.pem")
    assert signature.check(import_model(zipped, tmp_path), content).digest == first.digest
    assert signature.beside(zipped).name == "packed.zip.sig"


def test_openssl_agrees_on_sm2(model: Model, tmp_path: Path) -> None:
    """OpenSSL reads our key, verifies our signature, and makes one that we take: SM2 with SM3, default identity."""
    pytest.importorskip("gmssl_pyx")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")
    key = tmp_path / "key.pem"
    signature.make(key, "sm2")
    made = json.loads(signature.sign(model, key))
    message = f'["headrace-signature/1",{{"algorithm":"sm2","digest":"{model.digest}","sm3":"{model.sm3}"}}]'
    (tmp_path / "m").write_text(message)
    (tmp_path / "s").write_bytes(bytes.fromhex(made["value"]))
    options = ("-rawin", "-in", "m", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678", "-inkey", "key.pem")
    verified = subprocess.run([openssl, "pkeyutl", "-verify", "-sigfile", "s", *options], cwd=tmp_path,
                              capture_output=True, text=True, check=False, timeout=60)
    assert "Verified Successfully" in verified.stdout, verified.stderr
    subprocess.run([openssl, "pkeyutl", "-sign", "-out", "t", *options], cwd=tmp_path, check=True, timeout=60)
    theirs = (tmp_path / "t").read_bytes().hex()
    assert _check(model, {**made, "value": theirs}).algorithm == "sm2"
    generated = tmp_path / "openssl.pem"
    subprocess.run([openssl, "genpkey", "-algorithm", "SM2", "-out", str(generated)], check=True, timeout=60,
                   capture_output=True)
    assert signature.check(model, signature.sign(model, generated)).algorithm == "sm2"


def test_other_keys_are_refused(model: Model, tmp_path: Path) -> None:
    """A curve of NIST, no key at all, a file that is not there."""
    nist = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {"nist.pem": nist, "noise.pem": b"\x00\x01", "empty.pem": base64.b64encode(b"")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KeyFileError):
            signature.sign(model, tmp_path / name)
    with pytest.raises(KeyFileError):
        signature.sign(model, tmp_path / "none.pem")
