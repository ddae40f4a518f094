"""Buckets: any number of rows, cut, filled up and cut back, gives what the rows give one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import InputError
from inference.buckets import SIZES, cut, filled, run

if TYPE_CHECKING:
    from inference import Tensor
    from inference.adapters.batching import Call

ASCENDING: Final = st.sets(st.integers(1, 40), min_size=1, max_size=5).map(lambda sizes: tuple(sorted(sizes)))


def fixed(size: int, seen: list[int] | None = None) -> Call:
    """A runtime that takes exactly so many rows and gives two outputs, of each row by itself."""
    def call(feeds: dict[str, Tensor]) -> list[Tensor]:
        x, z = feeds["x"].astype(np.float64), feeds["z"].astype(np.float64)
        assert len(x) == len(z) == size
        if seen is not None:
            seen.append(size)
        gain = feeds["gain"].astype(np.float64)
        return [x.sum(axis=1) * gain, np.stack([x, x + z[:, None]], axis=-1)]

    return call


def obvious(rows: int, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """The same as `cut`, row by row."""
    pieces = []
    while rows:
        size = min((one for one in sizes if one >= rows), default=max(sizes))
        pieces.append((min(rows, size), size))
        rows -= pieces[-1][0]
    return pieces


@given(rows=st.integers(1, 500), sizes=ASCENDING)
def test_pieces_hold_all_rows_and_no_more_than_they_must(rows: int, sizes: tuple[int, ...]) -> None:
    """Cutting agrees with the obvious way, in order: every row once, only the last piece is filled up."""
    pieces = cut(rows, sizes)
    assert list(pieces) == obvious(rows, sizes)
    assert sum(count for count, _ in pieces) == rows
    assert all(count == size for count, size in pieces[:-1])


@given(rows=st.integers(1, 100), sizes=ASCENDING, seed=st.integers(0, 9))
def test_answers_are_those_of_the_rows_alone(rows: int, sizes: tuple[int, ...], seed: int) -> None:
    """Bit by bit: what was filled in touches no answer, and what is no batch is given whole to every piece."""
    draw = np.random.default_rng(seed)
    feeds: dict[str, Tensor] = {
        "x": draw.normal(size=(rows, 3)).astype(np.float32), "z": draw.integers(-9, 9, rows),
        "gain": np.asarray(2.5, np.float32),
    }
    alone = [fixed(1)({name: v[i:i + 1] if name != "gain" else v for name, v in feeds.items()}) for i in range(rows)]
    given_ = run({size: fixed(size) for size in sizes}, feeds, ("x", "z"))
    for position, output in enumerate(given_):
        np.testing.assert_array_equal(output, np.concatenate([parts[position] for parts in alone]))


def test_the_rows_that_fill_up_are_rows_of_the_plant() -> None:
    """The last row again, of any type: zeros might be what a model cannot take."""
    np.testing.assert_array_equal(filled(np.array([[1, 2], [3, 4]]), 4), [[1, 2], [3, 4], [3, 4], [3, 4]])
    assert filled(np.array(["a", "b"], dtype=object), 3).tolist() == ["a", "b", "b"]
    whole = np.arange(4)
    assert filled(whole, 4) is whole


def test_no_more_runs_than_sizes_ask_for() -> None:
    """70 rows are one run of 64 and one of 16, of which 10 are dropped."""
    seen: list[int] = []
    feeds: dict[str, Tensor] = {"x": np.ones((70, 3), np.float32), "z": np.ones(70), "gain": np.asarray(1, np.float32)}
    run({size: fixed(size, seen) for size in SIZES}, feeds, ("x", "z"))
    assert seen == [64, 16]


def test_what_cannot_be_cut_is_refused() -> None:
    """Inputs of different lengths, no rows, and, where rows are filled in, outputs that do not count rows."""
    calls = {2: fixed(2)}
    gain = np.asarray(1, np.float32)
    for rows, others in ((2, 3), (0, 0)):
        with pytest.raises(InputError, match="the same number of rows, at least one"):
            run(calls, {"x": np.ones((rows, 3)), "z": np.ones(others), "gain": gain}, ("x", "z"))
    whole = {"x": np.ones((2, 3))}
    assert [one.shape for one in run({2: lambda _: [np.ones(5)]}, whole, ("x",))] == [(5,)]
    for answer in (np.asarray(1.0), np.ones((1, 3))):
        with pytest.raises(InputError, match="does not count the 2 rows that went in"):
            run({2: lambda _, given=answer: [given]}, {"x": np.ones((1, 3))}, ("x",))  # type: ignore[misc]
