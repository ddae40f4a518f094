"""Turns: one at a time, in the order of coming, whatever becomes of those who wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inference import Options
from inference.adapters.ort import OrtBackend
from inference.adapters.session import CheckedSession
from inference.adapters.turns import Turns
from inference.vendors.cpu import SPEC
from tests.inference import onnx_graphs as graphs
from tests.waiting import wait_until

if TYPE_CHECKING:
    import onnx

    from inference import Model

X = np.ones((3, 16), np.float32)


def test_whoever_comes_first_goes_first() -> None:
    """Ten threads that came one after the other get their turns in that order."""
    turns, order = Turns(), list[int]()

    def take(number: int) -> None:
        with turns:
            order.append(number)

    with ThreadPoolExecutor(10) as threads, turns:
        for number in range(10):
            threads.submit(take, number)
            wait_until(lambda number=number: turns.waiting == number + 1)  # type: ignore[misc]
        assert order == []
    assert order == list(range(10))


class _Interrupted(Exception):  # noqa: N818 - what a signal of the test raises
    pass


def test_who_is_interrupted_leaves_the_turn_to_the_next() -> None:
    """A signal that ends the wait of one costs neither who has the turn nor who comes after."""
    turns, held, end = Turns(), threading.Event(), threading.Event()

    def hold() -> None:
        with turns:
            held.set()
            end.wait()

    def interrupt(*_: object) -> None:
        raise _Interrupted

    holder = threading.Thread(target=hold)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        holder.start()
        held.wait()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(_Interrupted), turns:
            pytest.fail("two had the turn at once")
    finally:
        signal.signal(signal.SIGALRM, before)
        end.set()
        holder.join()
    assert turns.waiting == 0
    with turns:
        pass


def test_sessions_of_a_provider_that_needs_it_take_turns(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """What the vendor file says decides: two sessions share the turns of the process, and a run waits for its own."""
    made = OrtBackend(replace(SPEC, one_at_a_time=True))
    model = imported(graphs.mlp())
    one, other = (made.prepare(model, made.devices()[0], Options()) for _ in range(2))
    free = OrtBackend(SPEC).prepare(model, made.devices()[0], Options())
    assert isinstance(one, CheckedSession)
    assert isinstance(other, CheckedSession)
    assert isinstance(free, CheckedSession)
    assert one.turns is other.turns
    assert free.turns is None
    turns = one.turns
    assert turns is not None
    with ThreadPoolExecutor(2) as threads:
        with turns:
            told = threads.submit(other.run, {"x": X})
            wait_until(lambda: turns.waiting == 1)
            closing = threads.submit(one.close)
            wait_until(lambda: turns.waiting == 2)
            assert not told.done()
            assert not closing.done()
            free.run({"x": X})
        np.testing.assert_array_equal(told.result()["y"], free.run({"x": X})["y"])
        closing.result()
