"""The conformance kit: each section fails on a device that does what the section is there to find."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from inference import backend
from inference.conformity import Own
from inference.kit import (
    FAILED,
    NOT_POSSIBLE,
    PASSED,
    Apart,
    LostError,
    Placement,
    RefusalError,
    RunError,
    lasting,
    pack,
    page,
    signing,
    suite,
)
from inference.kit.nodes import difference
from inference.kitmodels import foreign, long_run, questions
from inference.nodecases import cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from inference.kit import Feeds, Graph, Opened, Question, Target

SHORT = tuple(name for name in suite.SECTIONS if name not in ("nodes", "cancel", "restart"))


@pytest.fixture(scope="module")
def material() -> suite.Material:
    """The kit's models without its cases."""
    return suite.Material(cases("test_abs"), questions(), (), foreign(), ("test_abs",), "a yardstick")


@dataclass
class Strange:
    """A device that is the CPU's in all but one thing; the kit's own contract, since no device here goes wrong so."""

    cpu: Own
    answer: Callable[[Feeds], Feeds] = dict
    placement: Placement | None = None
    leak: list[bytes] | None = None
    lost: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    _resident: int = 10**8

    def open(self, graph: Graph, precision: str = "", feeds: Feeds | None = None) -> Opened:
        """The CPU's session, altered."""
        session = self.cpu.open(graph, "fp32", feeds)
        self._resident += 100_000 if self.leak is not None else 0
        return _Altered(session, self, graph, precision)

    def apart(self, graph: Graph, run_s: float) -> Apart:
        """As the CPU's."""
        return self.cpu.apart(graph, run_s)

    def resident(self) -> int:
        """As a process would be that keeps what it opened."""
        return self._resident


class _Altered:
    def __init__(self, session: Opened, strange: Strange, graph: Graph, precision: str) -> None:
        self._session, self._strange, self._graph = session, strange, graph
        self.placement = strange.placement or session.placement
        del precision

    def run(self, feeds: Feeds) -> Feeds:
        if self._strange.lost:
            message = "the device is gone"
            raise LostError(message)
        return self._strange.answer(self._session.run(feeds))

    def close(self) -> None:
        self._session.close()


def _found(target: Target, material: suite.Material, *wanted: str, reloads: int = 10) -> dict[str, suite.Section]:
    return {one.section: one for one in suite.Run(target, material, wanted, reloads).sections()}


@pytest.fixture
def cpu() -> Own:
    """Our sessions on the CPU."""
    used = backend("cpu")
    return Own(used, used.devices()[0])


def _each(change: Callable[[np.ndarray], object]) -> Callable[[Feeds], Feeds]:
    return lambda answer: {name: change(value) for name, value in answer.items()}


def test_the_cpu_passes_what_it_is_asked(cpu: Own, material: suite.Material) -> None:
    """Every section, but for those of a process of its own, has a verdict, and it is passed."""
    found = _found(cpu, material, "nodes", *SHORT)
    assert {name: one.reason for name, one in found.items() if one.verdict != PASSED} == {}
    assert {row["model"] for row in found["golden"].facts["rows"]} >= {"mlp", "trees", "gru", "lstm", "mlp-int8"}
    assert [row["batch"] for row in found["latency"].facts["rows"] if row["model"] == "mlp"] == [1, 8, 64, 256]
    assert suite.total(list(found.values())) == "partly"


@pytest.mark.parametrize(("name", "answer"), [
    ("golden", _each(lambda value: value * 1.2 if value.dtype.kind == "f" else value)),
    ("finite", _each(lambda value: np.full_like(value, np.inf) if value.dtype.kind == "f" else value)),
    ("golden", _each(lambda value: value[:1])),
    ("nodes", _each(lambda value: value + 1)),
], ids=("other numbers", "none", "another shape", "a case"))
def test_a_device_that_answers_otherwise_fails(
    cpu: Own, material: suite.Material, name: str, answer: Callable[[Feeds], Feeds]
) -> None:
    """Other numbers, none, or other shapes are the failure of their section, by the model's name."""
    found = _found(Strange(cpu, answer), material, name)[name]
    assert found.verdict == FAILED
    assert "test_abs" in found.reason if name == "nodes" else "mlp" in found.reason
    assert suite.total([found]) == FAILED


def test_a_precision_without_a_class_is_not_asked_for(cpu: Own, material: suite.Material) -> None:
    """A maker's own mixture has no tolerance; fp16 has, and is asked of every model that stays in its range."""
    found = _found(Strange(cpu, precisions=("fp32", "mixed", "fp16")), material, "golden")["golden"]
    asked = {(row["model"], row["asked"]) for row in found.facts["rows"]}
    assert ("mlp", "fp16") in asked
    assert ("overflow", "fp16") not in asked
    assert {one for _, one in asked} == {"fp32", "fp16"}


def test_a_chip_without_fp32_is_held_to_what_it_computes_in(cpu: Own, material: suite.Material) -> None:
    """Models and cases by the class of fp16, none that leaves its range; whole numbers are exact all the same."""
    coarse = _each(lambda value: value * np.float32(1.004) if value.dtype == np.float32 else value)
    chip = Strange(cpu, coarse, precisions=("fp16", "int8"))
    found = _found(chip, material, "nodes", *SHORT)
    assert {name: one.reason for name, one in found.items() if one.verdict != PASSED} == {}
    rows = {(row["model"], row["asked"], row["precision"]) for row in found["golden"].facts["rows"]}
    assert {("mlp", "fp16", "fp16"), ("mlp", "int8", "int8"), ("mlp-int8", "fp16", "int8")} <= rows
    assert "overflow" not in {model for model, _, _ in rows}
    assert _found(Strange(cpu, coarse), material, "nodes")["nodes"].verdict == FAILED
    assert difference(np.array([1000.0]), np.array([1001.0]), 0, 0, (1e-2, 1e-2)) == ""
    assert difference(np.array([1000]), np.array([1001]), 0, 0, (1e-2, 1e-2)) == "differs by up to 1"
    assert difference([np.array([1000.0])], [np.array([1001.0])], 0, 0, (1e-2, 1e-2)) == ""


def test_hidden_half_precision_is_not_finite(cpu: Own, material: suite.Material) -> None:
    """A device that computes in halves although fp32 was asked for gives infinity where the range is left."""
    only = replace(material, questions=tuple(one for one in material.questions if one.wide))

    def in_halves(answer: Feeds) -> Feeds:
        with np.errstate(over="ignore"):
            return {name: (value.astype(np.float32) * 1e7).astype(np.float16).astype(np.float32) / np.float32(1e7)
                    for name, value in answer.items()}

    assert _found(cpu, only, "finite")["finite"].verdict == PASSED
    assert _found(Strange(cpu, in_halves), only, "finite")["finite"].verdict == FAILED


@pytest.mark.parametrize("placement", [Placement(3, 2, ("Relu relu0 on CPU",)), Placement(3, 0, (), "unknown")])
def test_nodes_elsewhere_fail_placement_alone(cpu: Own, material: suite.Material, placement: Placement) -> None:
    """The node is named; what nobody knows counts as fallen back; the answers were right all the same."""
    found = _found(Strange(cpu, placement=placement), material, "golden", "placement")
    assert found["placement"].verdict == FAILED
    assert "relu0" in found["placement"].reason or "unknown" in found["placement"].reason
    assert found["golden"].verdict == PASSED


def test_memory_that_grows_fails_reload(cpu: Own, material: suite.Material) -> None:
    """A hundred thousand bytes a reload are told with their slope; an answer that changes is told, too."""
    grows = _found(Strange(cpu, leak=[]), material, "reload", reloads=60)["reload"]
    assert grows.verdict == FAILED
    assert "100000 bytes a reload" in grows.reason
    rows = iter(range(1000))
    other = _found(Strange(cpu, _each(lambda value: value + next(rows))), material, "reload")["reload"]
    assert "answered otherwise" in other.reason
    assert lasting.slope([1], [5]) == 0.0


def test_threads_that_change_each_others_answers_fail(cpu: Own, material: suite.Material) -> None:
    """One run whose answer is not that of the same rows alone is one too many."""
    rows = iter(range(100_000))
    found = _found(Strange(cpu, _each(lambda value: value + next(rows))), material, "concurrency")["concurrency"]
    assert found.verdict == FAILED
    assert "answered otherwise than alone" in found.reason


class _Says(Own):
    """A device that takes everything, and answers everything."""

    def open(self, graph: Graph, precision: str = "", feeds: Feeds | None = None) -> Opened:  # type: ignore[override]
        """Whatever it is given."""
        del graph, precision, feeds
        return _Yes()


class _Yes:
    placement = Placement(1, 1)

    def run(self, feeds: Feeds) -> Feeds:
        return dict(feeds)

    def close(self) -> None:
        pass


def test_faults_that_are_answered_fail(cpu: Own, material: suite.Material) -> None:
    """A broken file, an operator that nobody has and feeds that do not fit must not be answered."""
    found = _found(_Says(cpu.backend, cpu.device), material, "faults")["faults"]
    assert found.verdict == FAILED
    assert all(row["outcome"] == "answered" for row in found.facts["rows"])
    good = _found(cpu, material, "faults")["faults"]
    assert {row["fault"]: row["outcome"] for row in good.facts["rows"]} == {
        "file_cut_off": "refused", "file_of_noise": "refused", "file_empty": "refused", "operator_unknown": "refused",
        "shape_wrong": "failed", "rank_wrong": "failed", "text_for_numbers": "failed", "input_missing": "failed",
        "input_unknown": "failed",
    }


def test_what_a_device_cannot_do_is_not_passed(material: suite.Material) -> None:
    """A device that takes nothing, or has no process of its own, says so: not possible, with its reason."""
    used = backend("simnpu") if backend("simnpu").devices() else backend("null")
    target = Own(used, used.devices()[0])
    only = replace(material, questions=tuple(one for one in material.questions if one.graph.name == "trees"))
    found = _found(target, only, "golden", "latency", "concurrency", "cancel")
    assert {one.verdict for one in found.values()} <= {NOT_POSSIBLE, FAILED}
    assert all(one.reason for one in found.values())
    assert suite.total([one for one in found.values() if one.verdict == NOT_POSSIBLE]) == NOT_POSSIBLE


def test_a_lost_device_fails(cpu: Own, material: suite.Material) -> None:
    """A device that goes away is no device that cannot do it."""
    assert _found(Strange(cpu, lost=True), material, "concurrency")["concurrency"].verdict == FAILED


@pytest.fixture(scope="module")
def long() -> Question:
    """A run of some tenths of a second: many products of small matrices."""
    return long_run(512)


def test_a_run_is_cancelled_and_a_process_killed(cpu: Own, material: suite.Material, long: Question) -> None:
    """Whoever asked is told; what follows is right, in the same process or in a new one."""
    asked = replace(material, long=(long,) * 3)
    found = _found(cpu, asked, "cancel", "restart")
    if found["cancel"].verdict == NOT_POSSIBLE:
        pytest.skip(f"this machine is too fast: {found['cancel'].reason}")
    cancel, restart = found["cancel"], found["restart"]
    assert (cancel.verdict, cancel.facts["right_after"]) == (PASSED, True), cancel
    assert "did not answer within" in cancel.facts["said"]
    assert (restart.verdict, restart.facts["right_after"]) == (PASSED, True), restart
    assert "SIGKILL" in restart.facts["told"]


def test_a_vendor_without_engine_cannot_be_cancelled(material: suite.Material) -> None:
    """The evaluator runs in this process alone: not possible, by name."""
    used = backend("reference")
    target = Own(used, used.devices()[0])
    with pytest.raises(RefusalError, match="process of its own"):
        target.apart(material.questions[0].graph, 1.0)


def test_material_is_the_same_after_packing(cpu: Own, material: suite.Material) -> None:
    """Cases, models and vectors come out of the file as they went in: text, sequences, nothing at all and scalars."""
    some = cases("test_identity_opt") + cases("test_string_concat") + cases("test_identity_seq") + cases("bfloat16")
    text = np.array(["a", "引"], object)
    odd: tuple[Any, ...] = (None, [np.zeros(2), None], text, np.asarray(np.float32(1)), [], np.array([], np.int8))
    held = io.BytesIO()
    pack.write(replace(material, cases=(*some, replace(some[0], vectors=((odd, odd[::-1]),)))), held)
    back = pack.read(held)
    (given, expected), = back.cases[-1].vectors
    assert [difference(want, have, 0, 0) for want, have in zip(odd, given, strict=True)] == [""] * len(odd)
    assert expected[-1] is None
    assert given[1][1] is None
    back = replace(back, cases=back.cases[:-1])
    assert [one.graph for one in back.questions] == [one.graph for one in material.questions]
    assert (back.foreign, back.right, back.yardstick) == (material.foreign, ["test_abs"], "a yardstick")
    before = _found(cpu, replace(material, cases=some), "nodes")["nodes"].facts["cases"]
    assert _found(cpu, back, "nodes")["nodes"].facts["cases"] == before
    assert {one["outcome"] for one in before} == {"passed", "refused"}
    again = io.BytesIO()
    pack.write(back, again)
    for broken in (b"", held.getvalue()[:-200]):
        with pytest.raises(pack.PackError):
            pack.read(io.BytesIO(broken))


def test_the_plain_signature_is_that_of_the_library(tmp_path: Path) -> None:
    """RFC 8032's first vector, and random keys: bit for bit what cryptography makes, and its PEM files are read."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert signing.public_key(seed).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert signing.signature(seed, b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065")
    for length in (0, 1, 1000):
        seed, message = os.urandom(32), os.urandom(length)
        key = Ed25519PrivateKey.from_private_bytes(seed)
        assert signing.public_key(seed) == key.public_key().public_bytes_raw()
        assert signing.signature(seed, message) == key.sign(message)
    made = signing.make_key(tmp_path / "a.pem")
    loaded = serialization.load_pem_private_key((tmp_path / "a.pem").read_bytes(), password=None)
    assert isinstance(loaded, Ed25519PrivateKey)
    assert loaded.private_bytes_raw() == made == signing.read_key(tmp_path / "a.pem")
    assert (tmp_path / "a.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "b.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    for name in ("b.pem", "none.pem"):
        with pytest.raises(signing.KeyFileError):
            signing.read_key(tmp_path / name)
    signed = signing.signed("s", {"x": [1, 1e-7, "é"]}, seed)
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed["signature"]["public_key"]))
    public.verify(bytes.fromhex(signed["signature"]["value"]), signing.canonical("s", signed["report"]))
    with pytest.raises(ValueError, match="JSON"):
        signing.canonical("s", {"x": float("nan")})


def test_the_page_has_both_languages_and_no_script(cpu: Own, material: suite.Material) -> None:
    """What is foreign is escaped; each section stands in it, those not asked for, too."""
    sections = suite.Run(cpu, material, ("nodes", "golden", "reload"), 10).sections()
    hostile = {"id": "cpu", "vendor": "cpu", "name": "<script>alert(1)</script>"}
    versions = {"backend": "x", "way": "archive"}
    report = suite.report(sections, made_at="now", device=hostile, versions=versions, selection="", reloads=10)
    signed = signing.signed(suite.SCHEMA, report, bytes(32))
    for language, wanted in (("en", '<html lang="en">'), ("zh", '<html lang="zh-CN">')):
        shown = page.page(signed, language)
        assert wanted in shown
        assert "<script" not in shown
        assert "http" not in shown
        for text in ("Golden vectors by precision class", "各精度等级的黄金样本", "未要求", "离线包"):
            assert text in shown


def test_errors_are_told_apart() -> None:
    """A lost session is a failed run."""
    assert issubclass(LostError, RunError)
    assert not issubclass(RefusalError, RunError)
