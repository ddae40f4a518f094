"""Makers' compilers and frameworks, in an engine of their environment: a model becomes an artefact, and that a session.

The artefact is kept by all that decided it (`inference.artefacts`). A compiler runs in an engine of its own, which ends
with it: one that hangs or crashes is named, and costs no session that runs. What knows a maker's calls is a file in
`inference/toolchains/`; here is what all of them share, a framework's device too: its compiler is the converter into
the framework's own program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference import (
    Absent,
    BackendNotInstalledError,
    Device,
    DeviceLostError,
    InvalidModelError,
    Placement,
    UnsupportedModelError,
    artefacts,
    buckets,
)
from inference.adapters import bucketing, fitted
from inference.adapters.batching import find, fixed
from inference.adapters.opened import Opened, told
from inference.adapters.remote import Engine
from inference.adapters.session import CheckedSession
from inference.adapters.tensors import as_array
from inference.buckets import SIZES
from inference.chip import Text
from inference.golden import misfits, stored_inputs, typical
from inference.passes import quantise

if TYPE_CHECKING:
    from inference import Model, Options, Tensor
    from inference.adapters.batching import Call
    from inference.chip import Shape

DRIVER: Final = "compiled"
CALIBRATED: Final = "int8"
"""The precision for which a compiler is given feeds to find ranges by."""
NO_ENGINE: Final = Text(
    "an engine: name the interpreter of its environment in HEADRACE_ENGINES",
    "引擎：请在 HEADRACE_ENGINES 中指明其环境的解释器",
)
_UNTOLD: Final = "its compiler does not tell where layers run; unknown counts as fallen back"


@dataclass(frozen=True, slots=True)
class Kit:
    """A vendor's data for this adapter."""

    vendor: str
    toolchain: str
    """The file in `inference/toolchains/`."""
    evidence: str
    describe: Callable[[], str]
    """The device's name for people."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the toolchain is told, whatever the session."""
    precisions: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"fp32": {}})
    """For each precision that can be asked for, what the toolchain is told besides."""
    shapes: tuple[Shape, ...] = ("static",)
    buckets: tuple[int, ...] = SIZES
    """Rows at a time, ascending, where it takes fixed numbers of them."""
    opsets: tuple[int | None, int | None] = (None, None)
    """The lowest and highest opset that it reads; models beyond are converted."""
    ir: int | None = None
    """Its highest IR version."""


class CompiledBackend:
    """A maker's toolchain in an engine."""

    def __init__(self, kit: Kit, engine: Engine | None = None) -> None:
        """Nothing is started yet. `engine`: without one there are no devices."""
        self._kit, self._engine = kit, engine

    def inside(self, engine: Engine) -> CompiledBackend:
        """The same in that engine."""
        return CompiledBackend(self._kit, engine)

    def devices(self) -> tuple[Device, ...]:
        """Each device that the toolchain counts; none where it or the engine is absent."""
        found = self._look()
        if isinstance(found, Text):
            return ()
        vendor, count = self._kit.vendor, found["devices"]
        ids = [vendor] if count is None else [f"{vendor}:{number}" for number in range(int(count))]
        return tuple(
            Device(one, vendor, self._kit.describe(), title(found), self._kit.evidence) for one in ids
        )

    def absent(self) -> Absent | None:
        """Why there is no device: the engine, its interpreter, or the maker's part."""
        found = self._look()
        if isinstance(found, Text):
            return Absent(self._kit.vendor, found.en, self._kit.evidence, found.zh)
        if found["devices"] == 0:
            return Absent(self._kit.vendor, f"{title(found)} lists no device", self._kit.evidence)
        return None

    @property
    def precisions(self) -> tuple[str, ...]:
        """What its sessions can be asked for."""
        return tuple(self._kit.precisions)

    def prepare(self, model: Model, device: Device, options: Options) -> CheckedSession:
        """Compile it, or take what was compiled before. Raises UnsupportedModelError, DeviceLostError."""
        found = self._look()
        if isinstance(found, Text) or self._engine is None:
            raise DeviceLostError(found.en if isinstance(found, Text) else NO_ENGINE.en)
        work = _Work(self._kit, self._engine, found, model, device, options)
        try:
            return _prepared(self._kit, model, options, work.open)
        finally:
            work.end()

    def _look(self) -> dict[str, Any] | Text:
        if self._engine is None:
            return Text(f"it needs {NO_ENGINE.en}", f"需要{NO_ENGINE.zh}")
        return told(self._engine, request(self._kit.toolchain, self._kit.options))


def _prepared(
    kit: Kit, model: Model, options: Options, open_at: Callable[[int | None], tuple[Call, Placement]]
) -> CheckedSession:
    if options.batch is None and bucketing.needed(model, kit.shapes):
        return bucketing.session(model, kit.buckets, open_at)
    call, placement = open_at(options.batch)
    batching = find(model, call) if options.batch is None else fixed(model, options.batch)
    return CheckedSession(call, model.inputs, [spec.name for spec in model.outputs], placement, batching)


def title(found: Mapping[str, Any]) -> str:
    """The toolchain as a device's backend: with its chip, since an answer may depend on it."""
    chip = f", {found['soc']}" if found["soc"] else ""
    return f"{found['name']} {found['version']}{chip}, engine, Python {found['python']}"


def request(toolchain: str, options: Mapping[str, str]) -> dict[str, Any]:
    """What an engine is asked of a toolchain."""
    return {"driver": DRIVER, "toolchain": toolchain, "options": dict(options)}


class _Work:
    """Making one model ready: the compiler's engine is started where something has to be compiled, and ended after."""

    def __init__(
        self, kit: Kit, engine: Engine, found: Mapping[str, Any], model: Model, device: Device, options: Options
    ) -> None:
        """Raises UnsupportedModelError for a precision that cannot be asked for."""
        more = kit.precisions.get(options.precision)
        if more is None:
            first = next(iter(kit.precisions))
            message = (f"{device.id} can be asked for {', '.join(kit.precisions)}, not for {options.precision}: "
                       f"write {device.id}@{first}")
            raise UnsupportedModelError(message)
        self._kit, self._engine, self._found, self._model = kit, engine, found, model
        self._device, self._options = device, options
        self._told = {**kit.options, **more}
        self._compiler: Engine | None = None

    def open(self, rows: int | None) -> tuple[Call, Placement]:
        """A session for so many rows at a time. Raises UnsupportedModelError, DeviceLostError."""
        with TemporaryDirectory(prefix="headrace-fitted-") as folder:
            path = Path(folder, "model.onnx")
            made = fitted.write(self._model, path, rows=rows, opsets=self._kit.opsets, ir=self._kit.ir)
            asked_for = {
                "inputs": made.inputs, "outputs": made.outputs, "nodes": made.nodes, "options": self._told,
                "precision": self._options.precision, "threads": self._options.threads,
                "device": int(self._device.id.partition(":")[2] or 0),
            }  # fmt: skip
            if self._options.precision == CALIBRATED:
                asked_for["calibration"] = self._calibrated(Path(folder, "calibration.npz"), made, rows)
            session = self._session(path, asked_for, rows)
        return self._called(session, made), _placed(session.told["parts"], self._model.nodes)

    def _calibrated(self, target: Path, made: fitted.Fitted, rows: int | None) -> str:
        """Write the feeds that ranges are found by, as NUMBER/NAME. Raises UnsupportedModelError without any."""
        model = self._model
        golden = {} if model.golden is None else stored_inputs(model.golden)
        try:
            feeds = typical(model.path, golden)
        except InvalidModelError as error:
            raise UnsupportedModelError(str(error)) from error
        if not feeds:
            raise UnsupportedModelError(quantise.NO_FEEDS.en)
        if problems := misfits(feeds, model.inputs):
            raise UnsupportedModelError("; ".join(problems))
        batched = [one.name for one in model.inputs if one.shape and one.shape[0] is None]
        names = {one.name: plain["name"] for one, plain in zip(model.inputs, made.inputs, strict=True)}
        np.savez(target, allow_pickle=False, **{
            f"{number}/{names[name]}": value
            for number, piece in enumerate(buckets.pieces(feeds, batched, rows)) for name, value in piece.items()
        })
        return str(target)

    def end(self) -> None:
        """The compiler is not needed any more."""
        if self._compiler is not None:
            self._compiler.stop()

    def _session(self, path: Path, asked_for: dict[str, Any], rows: int | None) -> Opened:
        kept = artefacts.kept() if self._model.digest else None
        fresh: list[Path] = []

        def make(target: Path) -> None:
            fresh.append(target)
            self._compile(path, target, asked_for)

        if kept is not None:
            key = self._key(rows)
            try:
                with kept.held(key, make) as artefact:
                    return self._load(artefact, asked_for)
            except artefacts.NotKeptError:
                raise
            except UnsupportedModelError:
                # What was kept may be of a library that was replaced under the same version: once more, anew.
                kept.drop(key)
                if fresh:
                    raise
            except OSError:
                # A disk that is full costs time at each start, and no answer.
                pass
        artefact = path.with_name("artefact")
        make(artefact)
        return self._load(artefact, asked_for)

    def _key(self, rows: int | None) -> artefacts.Key:
        found, options = self._found, self._options
        return artefacts.Key(
            self._model.digest, self._kit.vendor, f"{found['name']} {found['version']}", driver=found["driver"],
            soc=found["soc"], precision=options.precision, shapes={} if rows is None else {"rows": rows},
            options={**self._told, "threads": str(options.threads), "opsets": f"{self._kit.opsets}, {self._kit.ir}"},
        )

    def _load(self, artefact: Path, asked_for: dict[str, Any]) -> Opened:
        return Opened(self._engine, {
            "driver": DRIVER, "toolchain": self._kit.toolchain, "path": str(artefact), "asked": asked_for,
        })  # fmt: skip

    def _compile(self, path: Path, target: Path, asked_for: dict[str, Any]) -> None:
        """Raises UnsupportedModelError with what the compiler said, or how it died."""
        if self._compiler is None:
            self._compiler = Engine(self._engine.place)
        within = self._engine.place.open_s
        lane = self._compiler.lane()
        try:
            lane.call({
                "op": "compile", "driver": DRIVER, "toolchain": self._kit.toolchain, "path": str(path),
                "target": str(target), "asked": asked_for,
            }, within)  # fmt: skip
        except TimeoutError as error:
            lane.kill()
            message = f"{self._kit.toolchain} did not end compiling within {within:g} s; it was stopped"
            raise UnsupportedModelError(message) from error
        except DeviceLostError as error:
            message = f"{self._kit.toolchain} died compiling it: {error}"
            raise UnsupportedModelError(message) from error
        except BackendNotInstalledError as error:
            raise UnsupportedModelError(str(error)) from error
        finally:
            lane.close()

    def _called(self, session: Opened, made: fitted.Fitted) -> Call:
        plain = [one["name"] for one in made.inputs]
        names = [one["name"] for one in made.outputs]
        order = [spec.name for spec in self._model.inputs]

        def call(feeds: dict[str, Tensor]) -> list[Tensor]:
            renamed = {new: feeds[name] for name, new in zip(order, plain, strict=True)}
            return [as_array(value) for value in session.run(names, renamed)]

        return call


def _placed(parts: list[Any] | None, nodes: int) -> Placement:
    """Where the compiler says that its layers run."""
    if parts is None:
        return Placement(nodes, 0, ("unknown",), _UNTOLD)
    left = tuple(str(text) for text, on in parts if not on)
    return Placement(len(parts), len(parts) - len(left), left)
