"""ONNX's node cases on the CPU and on devices that compute nothing or something else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference import Backend, Device, Model, Options, Placement, Session, UnsupportedModelError, backend
from inference.nodecases import Case, Result, by_operator, cases, run


@pytest.fixture(scope="session")
def every() -> tuple[Case, ...]:
    """All node cases, made once."""
    return cases()


@pytest.fixture(scope="session")
def on_cpu(every: tuple[Case, ...]) -> tuple[Result, ...]:
    """What our core makes of them on the CPU."""
    made = backend("cpu")
    return tuple(run(made, made.devices()[0], every))


class Altered:
    """The CPU's backend with its sessions' placement replaced: the contract, where no device at hand does this."""

    def __init__(self, placement: Placement) -> None:
        """`placement` is what every session states."""
        self._cpu = backend("cpu")
        self._placement = placement

    def devices(self) -> tuple[Device, ...]:
        """The CPU."""
        return self._cpu.devices()

    def absent(self) -> None:
        """Nothing is missing."""

    def prepare(self, model: Model, device: Device, options: Options) -> Session:
        """The CPU's session that says it is placed elsewhere."""
        session = self._cpu.prepare(model, device, options)
        session.placement = self._placement
        return session


def _one(used: Backend, case: Case) -> Result:
    return next(run(used, used.devices()[0], [case]))


def _case(every: tuple[Case, ...], name: str) -> Case:
    return next(one for one in every if one.name == name)


def test_every_case_has_one_result(every: tuple[Case, ...], on_cpu: tuple[Result, ...]) -> None:
    """No case is left out, none is counted twice, and only those that passed have no reason."""
    assert len(every) > 1500
    assert [one.case for one in on_cpu] == [one.name for one in every]
    assert all((one.outcome == "passed") == (one.reason == "") for one in on_cpu)


def test_the_cpu_passes_what_onnx_runtime_passes(every: tuple[Case, ...], on_cpu: tuple[Result, ...]) -> None:
    """Where ONNX Runtime alone gives the expected tensors, so do our sessions, sequences and optionals apart."""
    import onnxruntime  # noqa: PLC0415 - the peer

    onnxruntime.set_default_logger_severity(4)
    raised: tuple[type[Exception], ...] = (*_raised(), RuntimeError, ValueError)
    alone = set()
    for case in every:
        try:
            session = onnxruntime.InferenceSession(case.model.SerializeToString(), providers=["CPUExecutionProvider"])
            names = [one.name for one in session.get_inputs()]
            if all(_same(session.run(None, dict(zip(names, map(_plain, given), strict=False))), expected, case)
                   for given, expected in case.vectors):
                alone.add(case.name)
        except raised:
            continue
    lost = [one for one in on_cpu if one.case in alone and one.outcome != "passed"]
    assert len(alone) > 1500
    assert [one for one in lost if "only tensors are carried" not in one.reason] == []


def _raised() -> tuple[type[Exception], ...]:
    from inference.adapters.ort import errors  # noqa: PLC0415

    return errors()


def _plain(value: object) -> object:
    return onnx.numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _same(have: list[object], want: tuple[object, ...], case: Case) -> bool:
    for given, wanted in zip(have, map(_plain, want), strict=True):
        pairs = zip(given, wanted, strict=True) if isinstance(given, list) and isinstance(wanted, list) else [
            (given, wanted)]
        for a, b in ((np.asarray(x), np.asarray(y)) for x, y in pairs):
            if a.shape != b.shape or (b.dtype.kind in "OU" and not np.array_equal(a.astype(str), b.astype(str))):
                return False
            if b.dtype.kind not in "OU" and not (
                a.dtype == b.dtype and np.allclose(a, b, rtol=case.rtol, atol=case.atol, equal_nan=True)
            ):
                return False
    return True


def test_another_answer_is_seen(every: tuple[Case, ...]) -> None:
    """A case whose expected value is a little off differs, by so much; one of another shape or type says so."""
    case = _case(every, "test_abs")
    (given, (expected,)), = case.vectors
    off = replace(case, vectors=((given, (expected + np.float32(0.5),)),))
    assert _one(backend("cpu"), off) == Result("test_abs", "Abs", "differs", "output 'y': differs by up to 0.5")
    shaped = replace(case, vectors=((given, (expected[:1],)),))
    assert "shape [3, 4, 5], expected [1, 4, 5]" in _one(backend("cpu"), shaped).reason
    typed = replace(case, vectors=((given, (expected.astype(np.float64),)),))
    assert _one(backend("cpu"), typed).reason == "output 'y': float32, expected float64"


def test_every_vector_counts(every: tuple[Case, ...]) -> None:
    """A case passes only if its last vectors do as well."""
    case = _case(every, "test_abs")
    (given, (expected,)), = case.vectors
    twice = replace(case, vectors=(*case.vectors, (given, (expected + np.float32(1),))))
    assert _one(backend("cpu"), twice).outcome == "differs"


def test_other_text_is_seen(every: tuple[Case, ...]) -> None:
    """Strings are compared, not taken for numbers."""
    case = next(one for one in every if one.name.startswith("test_string_concat") and len(one.vectors) == 1)
    (given, (expected,)), = case.vectors
    assert _one(backend("cpu"), case).outcome == "passed"
    other = np.full(np.asarray(expected).shape, "else", dtype=object)
    assert _one(backend("cpu"), replace(case, vectors=((given, (other,)),))).reason.endswith("other text")


@pytest.mark.parametrize("placement", [Placement(2, 1, ("Abs on CPU",)), Placement(1, 0, (), "it cannot tell")])
def test_a_right_answer_from_elsewhere_is_no_pass(every: tuple[Case, ...], placement: Placement) -> None:
    """Nodes that fell back, or of which nobody knows where they ran, are counted apart and named."""
    result = _one(Altered(placement), _case(every, "test_abs"))
    assert result.outcome == "fallen_back"
    assert result.reason in ("Abs on CPU", "it cannot tell")


def test_what_is_not_taken_says_why(every: tuple[Case, ...], on_cpu: tuple[Result, ...]) -> None:
    """Types that numpy lacks and sequences are refused by name; an operator ONNX Runtime lacks, with its words."""
    reasons = {one.case: (one.outcome, one.reason) for one in on_cpu}
    assert reasons["test_identity_sequence"] == ("refused", "'x' is a sequence: only tensors are carried")
    bf16 = next(one for one in on_cpu if "BFLOAT16" in one.reason)
    assert bf16.outcome == "refused"
    assert reasons["test_convinteger_with_padding"][0] == "failed"
    node = helper.make_node("NoSuch", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    unknown = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))
    result = _one(backend("cpu"), replace(_case(every, "test_abs"), model=unknown))
    assert result.outcome == "refused"
    assert "NoSuch" in result.reason


def test_a_device_that_takes_nothing_passes_nothing(every: tuple[Case, ...]) -> None:
    """The device that computes nothing has no pass to show."""
    used = backend("null")
    some = every[:40]
    try:
        results = list(run(used, used.devices()[0], some))
    except UnsupportedModelError:
        pytest.fail("a refusal is a result")
    assert len(results) == len(some)
    assert Counter(one.outcome for one in results)["passed"] == 0


def test_operators_are_summed(on_cpu: tuple[Result, ...]) -> None:
    """The sums over all operators are the number of cases."""
    summed = by_operator(on_cpu)
    assert sum(sum(counts.values()) for counts in summed.values()) == len(on_cpu)
    assert list(summed) == sorted(summed)
    passed = sum(one.operator == "Abs" and one.outcome == "passed" for one in on_cpu)
    assert summed["Abs"]["passed"] == passed > 0


def test_cases_are_chosen_by_name(every: tuple[Case, ...]) -> None:
    """Only names that hold the text are taken, in their order."""
    chosen = [one.name for one in cases("softmax")]
    assert chosen == [one.name for one in every if "softmax" in one.name]
    assert chosen


def test_a_weight_listed_as_an_input_is_not_fed() -> None:
    """Old exporters list weights among the inputs; the vectors have no value for them."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "w", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:2], values[2:],
                              [helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    vectors = (((np.zeros(2, np.float32),), (np.array([1, 2], np.float32),)),)
    assert _one(backend("cpu"), Case("weights", model, vectors, 1e-3, 1e-7)).outcome == "passed"
