"""Joining: which models' requests may be one run, and that each request is then answered as if it were alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from inference import Model, Placement
from inference.adapters.batching import Batching
from inference.adapters.session import CheckedSession
from inference.devices import choose
from inference.joining import Outcome, joinable
from inference.microbatch import Microbatcher, Pace
from tests.inference import onnx_graphs as graphs

if TYPE_CHECKING:
    from inference import Session, Tensor

Import = Callable[[onnx.ModelProto], Model]
WITHIN_S = 20


def _on_cpu(model: Model) -> Session:
    return choose(["cpu"], model).session


@pytest.mark.parametrize("graph", [graphs.whole, graphs.mixed_batch, graphs.refused_batch, graphs.batch_of_one,
                                   graphs.scalar, graphs.sigmoid])  # fmt: skip
def test_a_model_without_a_true_batch_is_never_joined(
    imported: Import, graph: Callable[[], onnx.ModelProto]
) -> None:
    """No batch, rows that see each other, a batch that is refused, a batch of one, an input beside the batch."""
    model = imported(graph())
    assert not joinable(_on_cpu(model), model)


def test_a_batch_that_could_not_be_tried_is_never_joined(imported: Import) -> None:
    """Where no input of ours suited the model nobody knows whether its rows see each other."""
    model = imported(graphs.mul())
    untried = Batching("rows", ("x",), reason="batch not tried")
    for batching, expected in ((untried, False), (Batching("rows", ("x",)), True)):
        session = CheckedSession(lambda _: [], model.inputs, ["y"], Placement(1, 1), batching)
        assert joinable(session, model) is expected


@pytest.mark.parametrize("graph", [graphs.mlp, graphs.labels, graphs.two_outputs, graphs.maps, graphs.odd_names])
def test_joined_answers_are_those_of_each_alone(imported: Import, graph: Callable[[], onnx.ModelProto]) -> None:
    """Forty callers at once on real models, numbers, strings and maps: each gets what it gets when it is alone."""
    model = imported(graph())
    batcher = Microbatcher(model, lambda: _on_cpu(model))
    assert batcher.ready.result(WITHIN_S)
    alone = _on_cpu(model)
    feeds = [_feeds(model, seed) for seed in range(40)]
    outcomes: dict[int, Outcome] = {}
    all_told = threading.Event()

    def told(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        if len(outcomes) == len(feeds):
            all_told.set()

    for number, each in enumerate(feeds):
        batcher.submit(each, partial(told, number), wake=False)
    batcher.wake_up()
    assert all_told.wait(WITHIN_S)
    for number, each in enumerate(feeds):
        _same(outcomes[number], alone.run(each))
    assert batcher.figures.runs < len(feeds)
    assert batcher.figures.rows == sum(1 + seed % 3 for seed in range(40))
    batcher.close()
    batcher.join(WITHIN_S)


def _feeds(model: Model, seed: int) -> dict[str, Tensor]:
    spec = model.inputs[0]
    draw = np.random.default_rng(seed)
    shape = (1 + seed % 3, *(size or 1 for size in spec.shape[1:]))
    values = draw.integers(0, 2, shape) if spec.dtype == "int64" else draw.normal(size=shape)
    return {spec.name: values.astype(spec.dtype)}


def _same(outcome: Outcome, expected: dict[str, Tensor]) -> None:
    assert isinstance(outcome, dict)
    for name, value in expected.items():
        given: Any = outcome[name]
        wanted: Any = value
        if wanted.dtype == object:
            assert given.tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-6)


def test_a_session_is_warm_before_its_first_request(imported: Import) -> None:
    """It has run one row and as many as a run of several may have, when it says that it is ready."""
    model = imported(graphs.mul())
    runs: list[int] = []

    def call(feeds: dict[str, Tensor]) -> list[Tensor]:
        runs.append(len(feeds["x"]))
        return [feeds["x"]]

    session = CheckedSession(call, model.inputs, ["y"], Placement(1, 1), Batching("rows", ("x",)))
    batcher = Microbatcher(model, lambda: session, Pace(rows=16))
    assert batcher.ready.result(WITHIN_S)
    assert {1, 16} <= {*runs}
    batcher.close()
    batcher.join(WITHIN_S)
