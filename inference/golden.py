"""Golden vectors: inputs and expected outputs a model is held to on every device; read, made and compared."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference import InferenceError, InvalidModelError
from inference.adapters.tensors import NUMBERS, finite
from inference.kit.precision import CLASSES
from inference.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from inference import Session, Tensor, TensorSpec

Tolerance = tuple[float, float]
"""Relative, absolute: |answer - expected| <= absolute + relative * |expected|."""

FEEDS: Final = "calibration.npz"
"""In a package: feeds (`in/NAME`) as the plant has them."""
EXACT: Final[Tolerance] = (0.0, 0.0)
_FREE: Final = (1, 2, 8, 16, 32)
"""Sizes tried for free dimensions other than the first."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Feeds of one run, what must come out, and how far from it the answer may be."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    made_by: str = "the package"

    def tolerance(self, name: str, precision: str) -> Tolerance:
        """The package's own tolerance of an output, else its precision class; integers and strings are exact."""
        if name in self.tolerances:
            return self.tolerances[name]
        is_float = self.outputs[name].dtype.kind == "f"
        return CLASSES[precision] if is_float else EXACT


@dataclass(frozen=True, slots=True)
class Difference:
    """How one output compares with what was expected."""

    name: str
    passed: bool
    max_abs: float
    """Greatest absolute difference; NaN where it cannot be said (strings, other shape, not finite)."""
    rtol: float
    atol: float
    finite: bool
    reason: str = ""
    share: float = float("nan")
    """Worst difference over what its element may differ by: 1 is the limit. NaN as above, and where 0 is allowed."""


def _load(path: Path, limit_bytes: int) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > limit_bytes:
                message = f"golden.npz is larger than {limit_bytes // MIB} MiB unpacked: keep a few rows"
                raise InvalidModelError(message)
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, TypeError) as error:
        message = f"golden.npz is no archive of plain numpy arrays ({error}): write it with numpy.savez_compressed"
        raise InvalidModelError(message) from error


def read(path: Path, limit_bytes: int = 64 * MIB) -> Golden:
    """Keys `in/NAME`, `out/NAME`, optionally `tol/NAME` ([relative, absolute]), `keys/NAME` (of a map) and `made_by`.

    Never unpickles. Raises InvalidModelError.
    """
    parts: dict[str, dict[str, Tensor]] = {"in": {}, "out": {}, "tol": {}, "keys": {}}
    made_by = "the package"
    for key, value in _load(path, limit_bytes).items():
        kind, _, name = key.partition("/")
        if key == "made_by":
            made_by = str(value)
        elif kind in parts and name:
            parts[kind][name] = value
        else:
            message = f"golden.npz has the key {key!r}; keys are in/NAME, out/NAME, tol/NAME"
            raise InvalidModelError(message)
    outputs = {name: _as_maps(value, parts["keys"][name]) if name in parts["keys"] else value
               for name, value in parts["out"].items()}
    return Golden(parts["in"], outputs, {name: _pair(name, t) for name, t in parts["tol"].items()}, made_by)


def _pair(name: str, value: Tensor) -> Tolerance:
    if value.shape != (2,) or value.dtype.kind != "f" or not np.isfinite(value).all() or (value < 0).any():  # type: ignore[operator]
        message = f"golden.npz: tol/{name} must be two numbers, relative and absolute, at least 0"
        raise InvalidModelError(message)
    return float(value[0]), float(value[1])


def _as_maps(values: Tensor, keys: Tensor) -> Tensor:
    maps = np.empty(len(values), dtype=object)
    maps[:] = [dict(zip(keys.tolist(), row.tolist(), strict=True)) for row in values]
    return maps


def check(golden: Golden, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[str]:
    """What does not fit between the vectors and the model: names only, values are compared on the device."""
    problems = []
    for kind, given, specs in (("in", golden.inputs, inputs), ("out", golden.outputs, outputs)):
        names = {spec.name for spec in specs}
        problems += [f"golden.npz has no {kind}/{name}: add it" for name in sorted(names - given.keys())]
        problems += [f"golden.npz has {kind}/{name}, which the model does not" for name in sorted(given.keys() - names)]
    return problems


def typical(path: Path, golden: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Feeds as the plant has them, to find ranges by: calibration.npz beside the model, else the golden inputs.

    Raises InvalidModelError.
    """
    beside = path.with_name(FEEDS)
    return read(beside).inputs if beside.is_file() else golden


def misfits(feeds: Mapping[str, Tensor], inputs: Sequence[TensorSpec]) -> list[str]:
    """What does not fit between the feeds of calibration.npz and the model; none where ranges can be found by them."""
    names = {spec.name: spec for spec in inputs}
    problems = [f"{FEEDS} has no in/{name}: add it" for name in sorted(names.keys() - feeds.keys())]
    problems += [f"{FEEDS} has in/{name}, which the model does not" for name in sorted(feeds.keys() - names.keys())]
    rows = set()
    for name in sorted(names.keys() & feeds.keys()):
        spec, value = names[name], feeds[name]
        if len(value.shape) != len(spec.shape) or value.size == 0 or value.dtype.kind not in "fiub":
            problems.append(f"{FEEDS}: in/{name} is {value.dtype} {list(value.shape)}, the model takes {spec.dtype} "
                            f"{list(spec.shape)}")
        elif spec.shape and spec.shape[0] is None:
            rows.add(len(value))
    if len(rows) > 1:
        problems.append(f"{FEEDS}: the inputs have different numbers of rows: {', '.join(map(str, sorted(rows)))}")
    return problems


def stored_inputs(path: Path) -> dict[str, Tensor]:
    """The feeds of a golden file of our store."""
    return dict(read(path).inputs)


def samples(
    inputs: Sequence[TensorSpec], *, rows: int, seed: int, free: int = 1, positive: bool = False
) -> dict[str, Tensor]:
    """Feeds of the right types and shapes: normal floats (or uniform in 0.1 to 1), integers 0 and 1, words.

    A free first dimension gets `rows`, any other free one gets `free`. The same seed gives the same feeds.
    """
    draw = np.random.default_rng(seed)
    feeds: dict[str, Tensor] = {}
    for spec in inputs:
        shape = tuple((rows if axis == 0 else free) if size is None else size for axis, size in enumerate(spec.shape))
        feeds[spec.name] = _sample(draw, spec.dtype, shape, positive=positive)
    return feeds


def _sample(draw: np.random.Generator, dtype: str, shape: tuple[int, ...], *, positive: bool) -> Tensor:
    if dtype.startswith("float"):
        values = draw.uniform(0.1, 1.0, shape) if positive else draw.standard_normal(shape)
        return np.asarray(values, dtype=dtype)
    whole = draw.integers(0, 2, shape)
    return np.asarray(whole, dtype=dtype) if dtype in NUMBERS else np.asarray(whole).astype(str)


def make(session: Session, inputs: Sequence[TensorSpec], made_by: str) -> Golden:
    """Run a session on sampled feeds; the first sort of feeds with finite answers is taken.

    Where no answer is finite the last is kept, so that the check of the model says so. Raises InferenceError where
    the model takes none of our feeds.
    """
    kept: Golden | None = None
    refusal: InferenceError | None = None
    for free in _FREE if any(None in spec.shape[1:] for spec in inputs) else (1,):
        for positive in (False, True):
            feeds = samples(inputs, rows=2, seed=7, free=free, positive=positive)
            try:
                outputs = session.run(feeds)
            except InferenceError as error:
                refusal = error
                continue
            kept = Golden(feeds, outputs, made_by=made_by)
            if all(finite(outputs).values()):
                return kept
    if kept is None:
        raise refusal or InferenceError
    return kept


def write(golden: Golden, path: Path) -> None:
    """Store vectors without pickling. Raises InferenceError for outputs that cannot be (sequences, uneven maps)."""
    stored: dict[str, Any] = {f"in/{name}": _plain(name, value) for name, value in golden.inputs.items()}
    for name, value in golden.outputs.items():
        if value.dtype == object and value.size and isinstance(value.flat[0], dict):
            keys = list(value.flat[0])
            if any(list(each) != keys for each in value.flat):
                message = f"the maps of output {name!r} have different keys from row to row"
                raise InferenceError(message)
            stored[f"keys/{name}"] = np.asarray(keys)
            stored[f"out/{name}"] = np.asarray([list(each.values()) for each in value.flat])
        else:
            stored[f"out/{name}"] = _plain(name, value)
    np.savez_compressed(path, made_by=np.asarray(golden.made_by), **stored)


def _plain(name: str, value: Tensor) -> Tensor:
    if value.dtype != object:
        return value
    if all(isinstance(item, str) for item in value.flat):
        return value.astype(str)
    message = f"{name!r} holds neither numbers, strings nor maps and cannot be kept as a golden vector"
    raise InferenceError(message)


def compare(golden: Golden, outputs: Mapping[str, Tensor], precision: str) -> tuple[Difference, ...]:
    """One Difference for each expected output."""
    ok = finite(outputs)
    return tuple(
        _difference(name, expected, outputs[name], golden.tolerance(name, precision), is_finite=ok[name])
        for name, expected in golden.outputs.items()
    )


def _flat(value: Tensor) -> Tensor:
    """Maps as rows of their values in the order of their keys, so that they compare like numbers."""
    if value.dtype == object and value.size and isinstance(value.flat[0], dict):
        return np.asarray([[each[key] for key in sorted(each)] for each in value.flat])
    return value.astype(str) if value.dtype == object else value


def _comparable(want: Tensor, have: Tensor) -> bool:
    kinds = {want.dtype.kind, have.dtype.kind}
    return kinds <= set("fiub") or want.dtype.kind == have.dtype.kind


def _difference(
    name: str, expected: Tensor, given: Tensor, tolerance: Tolerance, *, is_finite: bool
) -> Difference:
    rtol, atol = tolerance
    nan = float("nan")
    if not is_finite:
        return Difference(name, passed=False, max_abs=nan, rtol=rtol, atol=atol, finite=False, reason="not finite")
    want, have = _flat(expected), _flat(given)
    if want.shape != have.shape or not _comparable(want, have):
        reason = f"{have.dtype} {list(have.shape)}, expected {want.dtype} {list(want.shape)}"
        return Difference(name, passed=False, max_abs=nan, rtol=rtol, atol=atol, finite=True, reason=reason)
    if "f" not in (want.dtype.kind, have.dtype.kind) and tolerance == EXACT:
        same = bool(np.array_equal(want, have))
        reason = "" if same else "other values"
        return Difference(name, passed=same, max_abs=nan, rtol=rtol, atol=atol, finite=True, reason=reason)
    return _numbers(name, want, have, tolerance)


def _numbers(name: str, want: Tensor, have: Tensor, tolerance: Tolerance) -> Difference:
    rtol, atol = tolerance
    wide = want.astype(np.float64)
    gap = np.abs(have.astype(np.float64) - wide)
    worst = float(gap.max()) if gap.size else 0.0
    allowed = atol + rtol * np.abs(wide)
    passed = bool((gap <= allowed).all())
    reason = "" if passed else f"differs by up to {worst:.3g}"
    share = float((gap / allowed).max()) if gap.size and (allowed > 0).all() else float("nan")
    return Difference(
        name, passed=passed, max_abs=worst, rtol=rtol, atol=atol, finite=True, reason=reason, share=share
    )
