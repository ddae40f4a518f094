"""Tensors on the wire: every datatype both ways, and everything that is no tensor refused by name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from app.errors import Problem
from app.tensors import DATATYPES, datatype_of, from_bytes, from_json, to_bytes, to_json

NUMBERS = sorted(DATATYPES.keys() - {"BYTES"})


def _json(datatype: str, shape: list[int], data: object) -> np.ndarray[Any, Any]:
    return from_json("x", datatype, shape, msgspec.Raw(msgspec.json.encode(data)))


@given(st.sampled_from(NUMBERS).flatmap(lambda name: npst.arrays(DATATYPES[name].dtype, npst.array_shapes(max_side=4))))
def test_raw_numbers_come_back_bit_for_bit(array: np.ndarray[Any, Any]) -> None:
    """Any number of any datatype and shape, NaN included, is the same after a way in raw bytes."""
    raw = memoryview(to_bytes(array))
    back = from_bytes("x", datatype_of(array.dtype), array.shape, raw)
    assert back.tobytes() == array.tobytes()
    assert back.shape == array.shape


@given(npst.arrays(object, npst.array_shapes(max_side=4), elements=st.text()))
def test_texts_come_back_in_both_forms(array: np.ndarray[Any, Any]) -> None:
    """Any text, an empty one and one with zeros included, is the same after a way in BYTES and in JSON."""
    assert from_bytes("x", "BYTES", array.shape, memoryview(to_bytes(array))).tolist() == array.tolist()
    assert _json("BYTES", [*array.shape], to_json("x", array)).tolist() == array.tolist()


@pytest.mark.parametrize("datatype", sorted(DATATYPES.keys() - {"BYTES", "FP16"}))
def test_numbers_come_back_from_json(datatype: str) -> None:
    """The extremes of each datatype survive a way in JSON."""
    dtype = DATATYPES[datatype].dtype
    if dtype.kind == "b":
        array = np.array([True, False])
    else:
        info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        array = np.array([info.min, 0, 1, info.max], dtype=dtype)
    back = _json(datatype, [len(array)], to_json("x", array))
    assert back.dtype == array.dtype
    assert back.tolist() == array.tolist()


def test_json_data_may_be_flat_or_nested() -> None:
    """Both give the same tensor, row-major."""
    flat = _json("INT32", [2, 3], [1, 2, 3, 4, 5, 6])
    nested = _json("INT32", [2, 3], [[1, 2, 3], [4, 5, 6]])
    assert flat.tolist() == nested.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        ("FP32", [2], [1.0], "do not fit FP32 of shape"),
        ("FP32", [2], [1.0, "2"], "are no FP32"),
        ("FP32", [1], [True], "are no FP32"),
        ("FP32", [1], [None], "are no FP32"),
        ("INT32", [1], [1.5], "are no INT32"),
        ("INT8", [1], [128], "do not fit INT8"),
        ("UINT8", [1], [-1], "do not fit UINT8"),
        ("BOOL", [1], [1], "are no BOOL"),
        ("BYTES", [1], [1], "are no BYTES"),
        ("FP16", [1], [1.0], "binary form only"),
        ("FP32", [2, 2], [[1.0, 2.0], [3.0]], "do not fit"),
        ("FP32", [2, 2], [[1.0, 2.0, 3.0, 4.0]], "nested as"),
        ("FP32", [2, 2], [[[1.0]]], "are no FP32"),
        ("FP32", [1], {"a": 1}, "are no FP32"),
        ("FP31", [1], [1.0], "there are: BOOL"),
        ("FP32", [1] * 17, [1.0], "at most 16 dimensions"),
    ],
)
def test_json_that_is_no_tensor_is_refused(datatype: str, shape: list[int], data: object, said: str) -> None:
    """The message names the input and what is wrong; nothing is rounded, cut or guessed."""
    with pytest.raises(Problem, match=f"input 'x': .*{said}") as refusal:
        _json(datatype, shape, data)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "said"),
    [
        ("FP32", [2], b"\0" * 7, "takes 8 bytes, not 7"),
        ("FP32", [2], b"\0" * 9, "takes 8 bytes, not 9"),
        ("BOOL", [2], b"\x01\x02", "0 or 1"),
        ("BYTES", [2], b"\x01\0\0\0a", "take 8 bytes or more"),
        ("BYTES", [1], b"\x05\0\0\0a", "beyond the end"),
        ("BYTES", [2], b"\x04\0\0\0abcd\x01", "beyond the end"),
        ("BYTES", [1], b"\x01\0\0\0ab", "1 bytes are left"),
        ("BYTES", [1], b"\x01\0\0\0\xff", "no UTF-8"),
        ("BYTES", [2**31, 2**31], b"\0\0\0\0", "or more"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(datatype: str, shape: list[int], raw: bytes, said: str) -> None:
    """A size that does not fit, a length that lies, and text that is none; nothing large is made for it."""
    with pytest.raises(Problem, match=said) as refusal:
        from_bytes("x", datatype, shape, memoryview(raw))
    assert refusal.value.status == 400


@given(st.binary(max_size=60), st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(1, 4), max_size=3))
def test_any_bytes_are_a_tensor_or_a_problem(raw: bytes, datatype: str, shape: list[int]) -> None:
    """Nothing else is ever raised."""
    with suppress(Problem):
        assert from_bytes("x", datatype, shape, memoryview(raw)).shape == tuple(shape)


def test_raw_numbers_that_lie_askew_are_copied() -> None:
    """A tensor behind an odd number of bytes is given to the model aligned."""
    body = b"\0" + np.arange(4, dtype="<f4").tobytes()
    found = from_bytes("x", "FP32", [4], memoryview(body)[1:])
    assert found.flags.aligned
    assert found.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_json_never_says_null_for_a_number(value: float) -> None:
    """NaN and infinity have no JSON form: the caller is told to ask for binary data."""
    with pytest.raises(Problem, match=r"output 'y': .*binary_data"):
        to_json("y", np.array([1.0, value]))


def test_half_precision_has_no_json_form() -> None:
    """As the protocol says."""
    with pytest.raises(Problem, match="FP16"):
        to_json("y", np.ones(1, np.float16))


def test_maps_travel_as_json_texts() -> None:
    """What scikit-learn's exporters give has no tensor type: each row is a JSON object in BYTES."""
    maps = np.empty(1, dtype=object)
    maps[0] = {0: np.float32(0.25), 7: np.float32(0.75)}
    assert to_json("y", maps) == ['{"0":0.25,"7":0.75}']
