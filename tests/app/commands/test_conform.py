"""`headrace conform`: the signed report of a device, its archive, and what others signed."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import Result

from app.commands import evidence
from inference.kit import signing
from inference.kit.suite import SCHEMA, SECTIONS

Run = Callable[..., Result]
QUICK = ("--quick", "--reloads", "10")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's report lies."""
    return tmp_path_factory.mktemp("conform")


@pytest.fixture
def made(run: Run, place: Path) -> tuple[Path, Path]:
    """Report and page of the CPU: every section but those that take long, and some node cases."""
    report, page = place / "report.json", place / "report.html"
    if not report.exists():
        done = run("conform", "--device", "cpu", "--cases", "identity", "--report", str(report), "--html", str(page),
                   *(word for name in SECTIONS[:-4] for word in ("--only", name)), "--only", "faults",
                   "--data", str(place / "data"), "--lang", "en")
        assert done.exit_code == 0, done.output
        assert "Verdict: partly" in done.output
    return report, page


def test_what_was_signed_holds(run: Run, made: tuple[Path, Path], place: Path, tmp_path: Path) -> None:
    """The report counts each case, names what it ran on, and its signature holds; any change is seen."""
    report, page = made
    read = json.loads(report.read_bytes())
    found = read["report"]
    nodes = found["sections"][0]["facts"]
    assert read["schema"] == SCHEMA == "headrace-conformance/2"
    assert sum(nodes["counts"].values()) == len(nodes["cases"]) > 3
    assert nodes["counts"]["passed"] == nodes["yardstick_passed"] > 0
    assert found["versions"]["backend"].startswith("onnxruntime ")
    public = bytes.fromhex(read["signature"]["public_key"])
    assert read["signature"]["fingerprint"] == hashlib.sha256(public).hexdigest()
    checked = run("conform", "verify", str(report), "--lang", "en")
    assert checked.exit_code == 0
    assert read["signature"]["fingerprint"] in checked.stdout
    assert stat.S_IMODE((place / "data" / "conform.key").stat().st_mode) == 0o600
    assert "Golden vectors" in page.read_text(encoding="utf-8")
    for name, content in _changes(read).items():
        other = tmp_path / "changed.json"
        other.write_text(json.dumps(content))
        refused = run("conform", "verify", str(other), "--lang", "en")
        assert refused.exit_code == 1, name
        assert "The signature holds" not in refused.output, name


def test_the_signature_is_made_as_documented(run: Run, made: tuple[Path, Path], place: Path, tmp_path: Path) -> None:
    """Another signer makes the same signature from the documented bytes; a later schema is refused though signed."""
    read = json.loads(made[0].read_bytes())
    key = serialization.load_pem_private_key((place / "data" / "conform.key").read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    for schema, good in ((SCHEMA, True), ("headrace-conformance/3", False)):
        plain = json.dumps([schema, read["report"]], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        value = key.sign(plain.encode()).hex()
        assert (value == read["signature"]["value"]) is good
        report = tmp_path / "r.json"
        report.write_text(json.dumps({**read, "schema": schema, "signature": {**read["signature"], "value": value}}))
        done = run("conform", "verify", str(report), "--lang", "en")
        assert (done.exit_code == 0) is good
        assert ("does not know" in done.output) is not good


def _changes(read: dict[str, Any]) -> dict[str, Any]:
    """The report with one thing changed in each."""
    def other(**parts: Any) -> dict[str, Any]:  # noqa: ANN401
        return {**read, **parts}

    report, signature = read["report"], read["signature"]
    first = {**report["sections"][0], "verdict": "failed"}
    return {
        "section": other(report={**report, "sections": [first, *report["sections"][1:]]}),
        "fewer": other(report={**report, "sections": report["sections"][1:]}),
        "verdict": other(report={**report, "verdict": "passed"}),
        "device": other(report={**report, "device": {**report["device"], "id": "ascend:0"}}),
        "time": other(report={**report, "made_at": "2020-01-01T00:00:00.000000000Z"}),
        "fingerprint": other(signature={**signature, "fingerprint": "00" * 32}),
        "value": other(signature={**signature, "value": "00" * 64}),
        "algorithm": other(signature={**signature, "algorithm": "none"}),
        "schema": other(schema="headrace-conformance/1"),
        "more": other(report={**report, "note": "unsigned"}),
    }


def test_what_contradicts_itself_is_refused_though_signed(run: Run, made: tuple[Path, Path], tmp_path: Path) -> None:
    """A verdict that the sections do not give, and a section that stands twice, are no report."""
    report = json.loads(made[0].read_bytes())["report"]
    lies = ({**report, "verdict": "passed"}, {**report, "sections": [*report["sections"], report["sections"][0]]})
    for lie in lies:
        (tmp_path / "r.json").write_text(json.dumps(signing.signed(SCHEMA, lie, bytes(32))))
        done = run("conform", "verify", str(tmp_path / "r.json"), "--lang", "en")
        assert done.exit_code == 1
        assert "contradicts itself" in done.output


def _of_a_chip(made: tuple[Path, Path], **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a stranger with an Ascend would sign: the CPU's report, told to be of that chip."""
    report = json.loads(made[0].read_bytes())["report"]
    subject = {"id": "ascend:0", "vendor": "ascend", "name": "Ascend 310P"}
    return signing.signed(SCHEMA, {**report, "device": subject, "selection": "", **changes}, bytes(32))


def test_a_report_on_file_raises_evidence(run: Run, made: tuple[Path, Path], tmp_path: Path) -> None:
    """With the signer's fingerprint, documented becomes verified-hardware, for this maker alone."""
    file, data = tmp_path / "r.json", ("--data", str(tmp_path / "data"), "--lang", "en")
    file.write_text(json.dumps(_of_a_chip(made)))
    fingerprint = hashlib.sha256(signing.public_key(bytes(32))).hexdigest()
    assert _evidence(run)["ascend"] == "documented"
    for given in ((), ("--fingerprint", fingerprint[:15]), ("--fingerprint", "0" * 64)):
        refused = run("conform", "import", str(file), *given, *data)
        assert refused.exit_code == 1
        assert fingerprint in refused.output
    assert _evidence(run)["ascend"] == "documented"
    kept = run("conform", "import", str(file), "--fingerprint", fingerprint.upper(), *data)
    assert kept.exit_code == 0, kept.output
    found = _evidence(run)
    assert (found["ascend"], found["metax"], found["cpu"]) == ("verified-hardware", "documented", "verified-ci")
    assert "ascend" in run("conform", "list", *data).output
    stored, = (tmp_path / "data" / evidence.FOLDER).glob("*.json")
    stored.write_text(stored.read_text().replace("310P", "910B"))
    assert _evidence(run)["ascend"] == "documented"


def _evidence(run: Run) -> dict[str, str]:
    found = json.loads(run("devices", "--json").stdout)
    return {one["vendor"]: one["evidence"] for one in (*found["devices"], *found["absent"])}


def test_a_report_that_shows_too_little_is_not_filed(run: Run, made: tuple[Path, Path], tmp_path: Path) -> None:
    """Failures, missing sections, a choice of cases and makers that nobody knows raise nothing."""
    sections = json.loads(made[0].read_bytes())["report"]["sections"]
    failed = [{**sections[0], "verdict": "failed"}, *sections[1:]]
    late = [*sections[:-1], {**sections[-1], "verdict": "failed"}]
    poor = {
        "Node cases": {"sections": failed, "verdict": "failed"}, "Golden": {"sections": sections[:1]},
        "chosen": {"selection": "identity"}, "no maker": {"device": {"id": "x", "vendor": "x", "name": "x"}},
        "Faults": {"sections": late, "verdict": "failed"},
    }
    fingerprint = hashlib.sha256(signing.public_key(bytes(32))).hexdigest()
    for name, changes in poor.items():
        (tmp_path / "r.json").write_text(json.dumps(_of_a_chip(made, **changes)))
        done = run("conform", "import", str(tmp_path / "r.json"), "--fingerprint", fingerprint,
                   "--data", str(tmp_path / "data"), "--lang", "en")
        assert done.exit_code == 1, name
        assert "too little" in done.output or "no maker" in done.output, name


def test_a_device_is_raised_on_its_own_runtime_only() -> None:
    """A report of another version of the runtime, or of another maker, shows nothing of this device."""
    from inference import Device  # noqa: PLC0415

    class _Signed:
        pass

    signed: Any = _Signed()
    signed.report = _Signed()
    signed.report.device = _Signed()
    signed.report.device.vendor = "ascend"
    signed.report.versions = _Signed()
    signed.report.versions.backend = "onnxruntime 1.24.4, CANNExecutionProvider"
    filed = evidence.Filed(Path("x"), signed)
    device = Device("ascend:0", "ascend", "Ascend", "onnxruntime 1.24.4, engine, Python 3.11", "documented")
    assert evidence.of_device(device, [filed]) is filed
    for other in (("ascend", "onnxruntime 1.25.0", "documented"), ("metax", "onnxruntime 1.24.4", "documented"),
                  ("ascend", "onnxruntime 1.24.4", "simulated")):
        assert evidence.of_device(Device("x", other[0], "", other[1], other[2]), [filed]) is None


def test_a_model_of_ones_own_is_asked_first(run: Run, tmp_path: Path) -> None:
    """Its golden vectors and its latency stand in the report, by its name and digest."""
    report = tmp_path / "r.json"
    done = run("conform", "--device", "cpu", "--model", "examples/tightening/package", *QUICK, "--report", str(report),
               "--data", str(tmp_path / "data"), "--lang", "en")
    assert done.exit_code == 0, done.output
    found = {one["section"]: one for one in json.loads(report.read_bytes())["report"]["sections"]}
    name = found["golden"]["facts"]["rows"][0]["model"]
    assert "tightening" in name
    assert "sha256:" in found["golden"]["facts"]["models"][name]
    assert found["reload"]["facts"]["model"] == name
    assert found["reload"]["facts"]["reloads"] == 10
    assert "nodes" not in found


def test_the_archive_runs_without_us(run: Run, tmp_path: Path) -> None:
    """One file, another interpreter that sees nothing of the package: a report that verifies, and the same key again.

    The interpreter is the oldest one at hand that has ONNX Runtime; ours stands in where there is no other.
    """
    kit, report = tmp_path / "kit" / "conform.pyz", tmp_path / "kit" / "r.json"
    kit.parent.mkdir()
    done = run("conform", "--archive", str(kit), "--cases", "test_abs", "--lang", "en")
    assert done.exit_code == 0, done.output
    assert "conform.pyz is written: 1 cases" in done.output
    python = _oldest()
    words = [python, "-I", str(kit), "--vendor", "cpu", "--name", "a host", "--quick", "--reloads", "10",
             "--only", "nodes", "--only", "golden", "--only", "placement", "--only", "faults", "--only", "concurrency",
             "--report", str(report), "--html", str(report.with_suffix(".html"))]
    keys = set()
    for _ in range(2):
        ran = subprocess.run(words, cwd=kit.parent, capture_output=True, text=True, check=False, timeout=170)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        keys.add(json.loads(report.read_bytes())["signature"]["fingerprint"])
    assert len(keys) == 1
    assert stat.S_IMODE((kit.parent / "conform.key").stat().st_mode) == 0o600
    checked = run("conform", "verify", str(report), "--lang", "en")
    assert checked.exit_code == 0, checked.output
    assert "cpu: partly" in checked.output
    assert "离线包" in report.with_suffix(".html").read_text(encoding="utf-8")
    refused = subprocess.run([python, "-I", str(kit), "--vendor", "nobody", "--report", str(report)],
                             capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert "ascend" in refused.stdout
    absent = subprocess.run([python, "-I", str(kit), "--vendor", "ascend", "--report", str(report)],
                            capture_output=True, text=True, check=False, timeout=60)
    assert absent.returncode == 2
    assert "CANNExecutionProvider: onnxruntime" in absent.stdout


def _oldest() -> str:
    """An interpreter with ONNX Runtime: Python 3.8 where one is on PATH and has it, else ours."""
    for name in ("python3.8", "python3.9", "python3.10"):
        path = shutil.which(name)
        if path is not None and not subprocess.run(
            [path, "-I", "-c", "import onnxruntime"], capture_output=True, check=False, timeout=60
        ).returncode:
            return path
    return sys.executable


def test_what_cannot_be_done_says_why(run: Run, tmp_path: Path) -> None:
    """No device, an unknown or absent one, no such case or section, a key of another kind: each has its message."""
    report = str(tmp_path / "r.json")
    curve = tmp_path / "curve.pem"
    curve.write_bytes(generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    asked = {
        "Give --device and --report": ("--report", report),
        "There is no maker nobody": ("--device", "nobody", "--report", report),
        "ascend:7 is not here": ("--device", "ascend:7", "--report", report),
        "There is no section nothing": ("--device", "cpu", "--report", report, "--only", "nothing"),
        "No case has nothing-like-it": ("--device", "cpu", "--report", report, "--cases", "nothing-like-it"),
        "another kind of key": ("--device", "cpu", "--report", report, "--key", str(curve)),
        "is no private key": ("--device", "cpu", "--report", report, "--key", str(tmp_path / "none.pem")),
        "cannot be written": ("--archive", str(tmp_path / "none" / "kit.pyz"), "--cases", "test_abs"),
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
