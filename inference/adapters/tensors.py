"""Tensors at the border of a session: feeds are checked and converted without loss, outputs joined and examined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from inference import Tensor, TensorSpec

NUMBERS: Final = frozenset({
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
})
"""Element types numpy knows by the same name as ONNX; the others we carry are `str`, `map`, `sequence`, `optional`."""
LOOSE: Final = ("sequence", "optional")
"""Lists of arrays, and what may be None: the runtime knows what is in them, a TensorSpec does not."""

_EXACT: Final = 2**53


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype that carries a TensorSpec's dtype: object for `str`, `map`, `sequence` and `optional`."""
    return np.dtype(name if name in NUMBERS else object)


def _survives(value: NDArray[Any], cast: NDArray[Any]) -> bool:
    """True if every element is unchanged. Integers beyond 2**53 never pass through a float."""
    kinds = {value.dtype.kind, cast.dtype.kind}
    if "f" in kinds and kinds & {"i", "u"}:
        whole = value if value.dtype.kind in "iu" else cast
        if whole.size and int(np.abs(whole.astype(np.float64)).max()) > _EXACT:
            return False
    back = cast.astype(value.dtype)
    return bool(np.array_equal(back, value, equal_nan=value.dtype.kind == "f"))


def _text(name: str, value: NDArray[Any]) -> NDArray[Any]:
    if value.dtype.kind in "UT":
        return value.astype(object)
    if value.dtype.kind == "O" and all(isinstance(item, str) for item in value.flat):
        return value
    message = f"input {name!r} takes strings, not {value.dtype}: give an array of str"
    raise InputError(message)


def lossless(name: str, value: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The value as `dtype`, or InputError where a single element would change. `dtype` object means strings."""
    array = np.asarray(value)
    if dtype.kind == "O":
        return _text(name, array)
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "fiub" and (array.dtype.kind != "b" or dtype.kind in "iub"):
        if np.can_cast(array.dtype, dtype, "safe"):
            return array.astype(dtype)
        with np.errstate(all="ignore"):
            cast = array.astype(dtype)
            if _survives(array, cast):
                return cast
    message = f"input {name!r} takes {dtype}; these {array.dtype} values do not fit without loss: convert them first"
    raise InputError(message)


def finite(outputs: Mapping[str, Tensor]) -> dict[str, bool]:
    """For each output, whether it holds neither NaN nor infinity. Maps are looked into; strings are always finite."""
    return {name: _finite(value) for name, value in outputs.items()}


def _finite(value: Any) -> bool:  # noqa: ANN401 - whatever a map or a sequence holds
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    array = np.asarray(value)
    if array.dtype == object:
        return all(item is not None and (isinstance(item, str) or _finite(item)) for item in array.flat)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def as_array(value: object) -> Tensor:
    """A runtime's output as an array: strings, maps and sequences become object arrays."""
    if isinstance(value, np.ndarray):
        return value.astype(object) if value.dtype.kind in "UT" else value
    if isinstance(value, list):
        array = np.empty(len(value), dtype=object)
        array[:] = value
        return array
    return np.asarray(value, dtype=object if isinstance(value, dict) else None)


def join(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Outputs of consecutive slices, put together along the first dimension."""
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def _loose(spec: TensorSpec, value: Any) -> Any:  # noqa: ANN401 - a list of arrays, an array or None
    """A list of arrays for a sequence; for an optional that, one array, or None. Raises InputError."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [np.asarray(item) for item in value]
    if spec.dtype == "optional":
        return None if value is None else np.asarray(value)
    message = f"input {spec.name!r} takes a sequence: give a list of arrays"
    raise InputError(message)


class Border:
    """Checks feeds against a model's inputs. Made once for a session, cheap for each run."""

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        """What a model takes, as its graph says."""
        self._names = frozenset(spec.name for spec in inputs)
        self._loose = tuple(spec for spec in inputs if spec.dtype in LOOSE)
        self._specs = tuple(
            (spec.name, numpy_dtype(spec.dtype), len(spec.shape),
             tuple((axis, size) for axis, size in enumerate(spec.shape) if size is not None))
            for spec in inputs if spec.dtype not in LOOSE
        )
        self._inputs = {spec.name: spec for spec in inputs}

    def check(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The feeds as the model takes them. Raises InputError naming the input, what it takes and was given."""
        if feeds.keys() != self._names:
            raise InputError(self._names_message(feeds))
        ready: dict[str, Tensor] = {spec.name: _loose(spec, feeds[spec.name]) for spec in self._loose}
        for name, dtype, rank, fixed in self._specs:
            value = feeds[name]
            if type(value) is not np.ndarray or value.dtype != dtype or dtype.kind == "O":
                value = lossless(name, value, dtype)
            shape = value.shape
            if len(shape) != rank:
                raise InputError(self._shape_message(name, shape))
            for axis, size in fixed:
                if shape[axis] != size:
                    raise InputError(self._shape_message(name, shape))
            ready[name] = value
        return ready

    def _names_message(self, feeds: Mapping[str, Tensor]) -> str:
        missing = sorted(self._names - feeds.keys())
        unknown = sorted(feeds.keys() - self._names)
        return f"the model takes {sorted(self._names)}; missing: {missing}, unknown: {unknown}"

    def _shape_message(self, name: str, shape: tuple[int, ...]) -> str:
        wanted = ["any" if size is None else size for size in self._inputs[name].shape]
        return f"input {name!r} takes shape {wanted}, not {list(shape)}"
