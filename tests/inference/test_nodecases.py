"""ONNX's backend cases on the CPU and on devices that compute nothing or something else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference import (
    Backend,
    Device,
    InputError,
    Model,
    Options,
    Placement,
    Session,
    TensorSpec,
    UnsupportedModelError,
    backend,
)
from inference.adapters.tensors import Border, as_array
from inference.conformity import Own
from inference.kit import Case
from inference.kit.nodes import Result, by_operator, difference, judged, wrong
from inference.kitarchive import right
from inference.nodecases import KINDS, case, cases


@pytest.fixture(scope="session")
def every() -> tuple[Case, ...]:
    """All cases, made once."""
    return cases()


@pytest.fixture(scope="session")
def on_cpu(every: tuple[Case, ...]) -> tuple[Result, ...]:
    """What our core makes of them on the CPU."""
    return _run(backend("cpu"), *every)


def _run(used: Backend, *chosen: Case) -> tuple[Result, ...]:
    return tuple(judged(Own(used, used.devices()[0]), chosen))


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


def _one(used: Backend, chosen: Case) -> Result:
    return _run(used, chosen)[0]


def _case(every: tuple[Case, ...], name: str) -> Case:
    return next(one for one in every if one.name == name)


def test_every_case_has_one_result(every: tuple[Case, ...], on_cpu: tuple[Result, ...]) -> None:
    """No case is left out, none is counted twice, and only those that passed have no reason."""
    assert len(every) > 2000
    assert {one.kind for one in every} == set(KINDS)
    assert [one.case for one in on_cpu] == [one.name for one in every]
    assert all((one.outcome == "passed") == (one.reason == "") for one in on_cpu)


def test_the_cpu_passes_what_bare_onnx_runtime_passes(every: tuple[Case, ...], on_cpu: tuple[Result, ...]) -> None:
    """Where ONNX Runtime alone gives what is expected, so do our sessions: sequences and optionals, too."""
    alone, yardstick = right(every)
    assert "onnxruntime" in yardstick
    assert len(alone) > 1650
    assert {one.case for one in on_cpu if one.outcome == "passed"} >= set(alone)
    assert wrong(on_cpu, alone) == ()
    loose = [one for one in every if any(spec.dtype in ("sequence", "optional") for spec in one.graph.inputs)]
    assert {one.name for one in loose} & set(alone)


def test_whole_networks_are_among_them(every: tuple[Case, ...], on_cpu: tuple[Result, ...]) -> None:
    """Nine networks of the package, fed as ONNX's own runner feeds them, against the answers it keeps."""
    networks = {one.name: one for one in every if one.kind == "real"}
    assert len(networks) == 9
    assert {one.case for one in on_cpu if one.kind == "real" and one.outcome == "passed"} == {*networks}
    ((image,), (answer,)), = networks["test_resnet50"].vectors
    assert image.shape == (1, 3, 224, 224)
    assert (image.min(), image.ravel()[1]) == (0, np.float32(1 / image.size))
    assert answer.shape == (1, 1000)


def test_another_answer_is_seen(every: tuple[Case, ...]) -> None:
    """A case whose expected value is a little off differs, by so much; one of another shape or type says so."""
    chosen = _case(every, "test_abs")
    (given, (expected,)), = chosen.vectors
    off = replace(chosen, vectors=((given, (expected + np.float32(0.5),)),))
    assert _one(backend("cpu"), off) == Result("test_abs", "Abs", "differs", "output 'y': differs by up to 0.5")
    shaped = replace(chosen, vectors=((given, (expected[:1],)),))
    assert "shape [3, 4, 5], expected [1, 4, 5]" in _one(backend("cpu"), shaped).reason
    none = replace(chosen, vectors=((given, (np.where(expected > 1, np.float32(np.nan), expected),)),))
    assert "NaN where a number was expected" in _one(backend("cpu"), none).reason
    typed = replace(chosen, vectors=((given, (expected.astype(np.float64),)),))
    assert _one(backend("cpu"), typed).reason == "output 'y': float32, expected float64"


def test_another_item_of_a_sequence_is_seen(every: tuple[Case, ...]) -> None:
    """Sequences are compared item by item, nothing is equal to nothing alone, and a list is no array."""
    chosen = _case(every, "test_identity_sequence")
    assert _one(backend("cpu"), chosen).outcome == "passed"
    (given, (expected,)), = chosen.vectors
    off = replace(chosen, vectors=((given, ([expected[0] + 1, *expected[1:]],)),))
    assert "item 0: differs by up to 1" in _one(backend("cpu"), off).reason
    short = replace(chosen, vectors=((given, (expected[:-1],)),))
    assert f"{len(expected)} items, expected {len(expected) - 1}" in _one(backend("cpu"), short).reason
    alike = as_array([np.zeros(2), np.ones(2)])
    assert alike.shape == (2,)
    assert alike[1].tolist() == [1, 1]
    assert difference(None, None, 0, 0) == ""
    assert difference(None, np.zeros(1), 0, 0)
    assert difference([np.zeros(1)], np.zeros(1), 0, 0)
    assert difference(np.zeros(1), [np.zeros(1)], 0, 0)


def test_a_border_takes_sequences_and_optionals() -> None:
    """A sequence is a list of arrays, in an array of objects as well; an optional may hold nothing."""
    border = Border((TensorSpec("s", "sequence", ()), TensorSpec("o", "optional", ())))
    items: Any = [np.zeros(2), np.ones(3)]
    nothing: Any = None
    for given in (items, as_array(items)):
        ready: Any = border.check({"s": given, "o": nothing})
        assert [one.shape for one in ready["s"]] == [(2,), (3,)]
        assert ready["o"] is None
    held: Any = border.check({"s": items, "o": np.ones(2)})
    assert held["o"].tolist() == [1, 1]
    with pytest.raises(InputError, match="'s' takes a sequence"):
        border.check({"s": np.ones(2), "o": nothing})


def test_every_vector_counts(every: tuple[Case, ...]) -> None:
    """A case passes only if its last vectors do as well."""
    chosen = _case(every, "test_abs")
    (given, (expected,)), = chosen.vectors
    twice = replace(chosen, vectors=(*chosen.vectors, (given, (expected + np.float32(1),))))
    assert _one(backend("cpu"), twice).outcome == "differs"


def test_other_text_is_seen(every: tuple[Case, ...]) -> None:
    """Strings are compared, not taken for numbers."""
    chosen = next(one for one in every if one.name.startswith("test_string_concat") and len(one.vectors) == 1)
    (given, (expected,)), = chosen.vectors
    assert _one(backend("cpu"), chosen).outcome == "passed"
    other = np.full(np.asarray(expected).shape, "else", dtype=object)
    assert _one(backend("cpu"), replace(chosen, vectors=((given, (other,)),))).reason.endswith("other text")


@pytest.mark.parametrize("placement", [Placement(2, 1, ("Abs on CPU",)), Placement(1, 0, (), "it cannot tell")])
def test_a_right_answer_from_elsewhere_is_no_pass(every: tuple[Case, ...], placement: Placement) -> None:
    """Nodes that fell back, or of which nobody knows where they ran, are counted apart and named."""
    result = _one(Altered(placement), _case(every, "test_abs"))
    assert result.outcome == "fallen_back"
    assert result.reason in ("Abs on CPU", "it cannot tell")
    assert wrong([result], ["test_abs"]) == (result,)
    assert wrong([result], []) == ()
    assert wrong([result], None) == (result,)


def test_what_is_not_taken_says_why(every: tuple[Case, ...], on_cpu: tuple[Result, ...]) -> None:
    """Types that numpy lacks are refused by name; an operator ONNX Runtime lacks, with its words."""
    reasons = {one.case: (one.outcome, one.reason) for one in on_cpu}
    bf16 = next(one for one in on_cpu if "BFLOAT16" in one.reason)
    assert bf16.outcome == "refused"
    assert reasons["test_convinteger_with_padding"][0] == "failed"
    node = helper.make_node("NoSuch", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    unknown = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))
    vectors = _case(every, "test_abs").vectors
    result = _one(backend("cpu"), case("unknown", unknown, vectors))
    assert result.outcome == "refused"
    assert "NoSuch" in result.reason


def test_a_device_that_takes_nothing_passes_nothing(every: tuple[Case, ...]) -> None:
    """The device that computes nothing has no pass to show."""
    some = every[:40]
    try:
        results = _run(backend("null"), *some)
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
    assert _one(backend("cpu"), case("weights", model, vectors)).outcome == "passed"
    assert onnx.load_from_string(case("weights", model, vectors).graph.content).graph.name == "g"
