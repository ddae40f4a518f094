"""A maker's own ONNX Runtime in an engine: what runs there runs on its provider, or is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import inference
from inference import Options, UnsupportedModelError
from inference.devices import choose
from tests.inference import onnx_graphs as graphs
from tests.inference.test_conformance import CASES, equal

if TYPE_CHECKING:
    from collections.abc import Callable

    from inference import Model
    from tests.inference.accelerators.conftest import Place

TAKEN = ("mul", "opset 7", "opset 21", "sigmoid", "mlp", "two outputs", "odd names", "batch of one", "mixed batch")


@pytest.fixture(autouse=True)
def openvino(place: Place) -> None:
    """In its environment."""
    place("openvino", "openvino")


def deep() -> onnx.ModelProto:
    """Sixteen convolutions: in bfloat16 their errors add up to more than a hundredth."""
    draw = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array((draw.normal(size=(8, 8, 3, 3)) / 8).astype(np.float32), f"w{n}") for n in range(16)
    ]
    nodes = []
    for n in range(16):
        nodes.append(helper.make_node("Conv", [f"a{n}", f"w{n}"], [f"c{n}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Tanh", [f"c{n}"], [f"a{n + 1}"]))
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8, 16, 16]) for name in ("a0", "a16")]
    graph = helper.make_graph(nodes, "deep", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("case", TAKEN)
def test_a_model_gives_the_right_answer_on_its_provider(imported: Callable[..., Model], case: str) -> None:
    """Every node is on it, and the answer is the one worked out without a runtime."""
    one = CASES[case]
    session, device, refusals = choose(["openvino"], imported(one.build()))
    assert (device.id, refusals) == ("openvino", ())
    assert session.placement.fallen_back == ()
    assert session.placement.on_device > 0
    found = session.run(one.feeds)
    for name, expected in one.expected.items():
        equal(found[name], expected)
    session.close()


def test_it_computes_in_fp32(imported: Callable[..., Model]) -> None:
    """Bfloat16, which some versions choose by themselves where the processor has it, would be seen here."""
    model = imported(deep())
    feeds: dict[str, Any] = {"a0": np.random.default_rng(2).normal(size=(2, 8, 16, 16)).astype(np.float32)}
    answers = []
    for vendor in ("cpu", "openvino"):
        session, _, _ = choose([vendor], model)
        answers.append(session.run(feeds)["a16"].astype(np.float32))
        session.close()
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)


def test_what_it_does_not_take_is_refused_by_name(imported: Callable[..., Model]) -> None:
    """Never run on the CPU's provider instead; the next device of the order takes it."""
    model = imported(graphs.labels())
    made = inference.backend("openvino")
    with pytest.raises(UnsupportedModelError, match="CPU"):
        made.prepare(model, made.devices()[0], Options())
    session, device, refusals = choose(["openvino", "cpu"], model)
    assert device.id == "cpu"
    assert refusals[0].device == "openvino"
    session.close()
