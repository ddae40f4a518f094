"""`headrace conform`: the signed report of a device, its page, and the check of what others signed."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def made(run: Run, tmp_path: Path) -> tuple[Path, Path, Result]:
    """Report and page of the cases with `identity` in their name: some pass, some cannot be carried."""
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    done = run("conform", "--device", "cpu", "--only", "identity", "--report", str(report), "--html", str(page),
               "--data", str(tmp_path / "data"), "--lang", "en")
    return report, page, done


def test_what_was_signed_holds(run: Run, made: tuple[Path, Path, Result], tmp_path: Path) -> None:
    """The report counts each case, names what it ran on, and its signature holds; not all passed is exit status 1."""
    report, page, done = made
    assert done.exit_code == 1, done.output
    read = json.loads(report.read_bytes())
    found = read["report"]
    assert read["schema"] == "headrace-conformance/1"
    assert sum(found["counts"].values()) == len(found["cases"]) > 3
    assert found["counts"]["passed"] > 0
    assert found["counts"]["refused"] > 0
    assert found["coverage_percent"] == round(100 * found["counts"]["passed"] / len(found["cases"]), 2)
    assert found["versions"]["backend"].startswith("onnxruntime ")
    public = bytes.fromhex(read["signature"]["public_key"])
    assert read["signature"]["fingerprint"] == hashlib.sha256(public).hexdigest()
    checked = run("conform", "verify", str(report), "--lang", "en")
    assert checked.exit_code == 0
    assert read["signature"]["fingerprint"] in checked.stdout
    assert stat.S_IMODE((tmp_path / "data" / "conform.key").stat().st_mode) == 0o600
    shown = page.read_text(encoding="utf-8")
    assert "only tensors are carried" in shown
    assert "<script" not in shown
    assert "http" not in shown
    changed = _changes(read)
    for name, content in changed.items():
        report.write_text(json.dumps(content))
        refused = run("conform", "verify", str(report), "--lang", "en")
        assert refused.exit_code == 1, name
        assert "The signature holds" not in refused.output, name


def test_the_signature_is_made_as_documented(run: Run, made: tuple[Path, Path, Result], tmp_path: Path) -> None:
    """Another signer makes the same signature from the documented bytes; a later schema is refused though signed."""
    report = made[0]
    read = json.loads(report.read_bytes())
    key = serialization.load_pem_private_key((tmp_path / "data" / "conform.key").read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    for schema, good in (("headrace-conformance/1", True), ("headrace-conformance/2", False)):
        plain = json.dumps([schema, read["report"]], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        value = key.sign(plain.encode()).hex()
        assert (value == read["signature"]["value"]) is good
        report.write_text(json.dumps({**read, "schema": schema, "signature": {**read["signature"], "value": value}}))
        done = run("conform", "verify", str(report), "--lang", "en")
        assert (done.exit_code == 0) is good
        assert ("does not know" in done.output) is not good


def _changes(read: dict[str, Any]) -> dict[str, Any]:
    """The report with one thing changed in each."""
    def other(**parts: Any) -> dict[str, Any]:  # noqa: ANN401
        return {**read, **parts}

    report, signature = read["report"], read["signature"]
    first = {**report["cases"][0], "outcome": "failed"}
    return {
        "case": other(report={**report, "cases": [first, *report["cases"][1:]]}),
        "count": other(report={**report, "counts": {**report["counts"], "passed": 999}}),
        "device": other(report={**report, "device": {**report["device"], "id": "ascend:0"}}),
        "time": other(report={**report, "made_at": "2020-01-01T00:00:00.000000000Z"}),
        "fingerprint": other(signature={**signature, "fingerprint": "00" * 32}),
        "value": other(signature={**signature, "value": "00" * 64}),
        "algorithm": other(signature={**signature, "algorithm": "none"}),
        "schema": other(schema="headrace-conformance/2"),
        "more": other(report={**report, "note": "unsigned"}),
    }


def test_everything_passed_is_exit_status_0(run: Run, tmp_path: Path) -> None:
    """Nothing is wrong where every case passed; the same key signs again; the page is in Chinese where asked."""
    keys = set()
    for number in range(2):
        report, page = tmp_path / f"{number}.json", tmp_path / "zh.html"
        done = run("conform", "--device", "cpu", "--only", "test_abs", "--report", str(report), "--html", str(page),
                   "--data", str(tmp_path / "data"), "--lang", "zh-CN")
        assert done.exit_code == 0, done.output
        keys.add(json.loads(report.read_bytes())["signature"]["public_key"])
    assert len(keys) == 1
    assert '<html lang="zh-CN">' in page.read_text(encoding="utf-8")
    assert "的一致性" in page.read_text(encoding="utf-8")


def test_what_cannot_be_done_says_why(run: Run, tmp_path: Path) -> None:
    """No device, an unknown or absent one, no such case, a key of another kind: each has its message."""
    report = str(tmp_path / "r.json")
    curve = tmp_path / "curve.pem"
    curve.write_bytes(generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    asked = {
        "Give --device and --report": ("--report", report),
        "There is no maker nobody": ("--device", "nobody", "--report", report),
        "ascend:7 is not here": ("--device", "ascend:7", "--report", report),
        "No case has nothing-like-it": ("--device", "cpu", "--report", report, "--only", "nothing-like-it"),
        "another kind of key": ("--device", "cpu", "--report", report, "--key", str(curve)),
        "is no private key": ("--device", "cpu", "--report", report, "--key", str(tmp_path / "none.pem")),
    }
    for message, words in asked.items():
        done = run("conform", *words, "--data", str(tmp_path / "data"), "--lang", "en")
        assert done.exit_code in (1, 2), message
        assert message in done.output
    assert not Path(report).exists()


def test_what_is_no_report_is_refused(run: Run, tmp_path: Path) -> None:
    """Foreign bytes, a missing file and deep nesting end in a message."""
    for content in (b"", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"x":' + b"[" * 100_000):
        file = tmp_path / "foreign.json"
        file.write_bytes(content)
        done = run("conform", "verify", str(file), "--lang", "en")
        assert done.exit_code == 1
        assert "no conformance report" in done.output
    assert "cannot be read" in run("conform", "verify", str(tmp_path / "none.json"), "--lang", "en").output
