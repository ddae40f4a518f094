"""Opens a foreign package in a child process with limits and reports its contract; a crash there is a refusal here."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from inference import InferenceError, InvalidModelError, Model, Options, TensorSpec, UnsupportedModelError, child
from inference.limits import MIB, Limits

_DOCUMENTS: Final = ("readme", "licence", "license", "notice", "changelog")
_KNOWN: Final = frozenset({"model.onnx", "model.yaml", "golden.npz", "calibration.npz"})


@dataclass(frozen=True, slots=True)
class Contract:
    """What the inspection found; kept beside the package in the store."""

    name: str
    version: str
    opset: int
    ir_version: int
    nodes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    manifest: dict[str, Any] = field(default_factory=dict)
    golden: str = ""
    """Where the golden vectors lie below the model's folder; empty where there are none, then `note` says why."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What the child is asked: absolute paths and limits."""

    source: str
    work: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class Report:
    """The child's answer: a contract, or what is wrong, one sentence a line."""

    contract: Contract | None = None
    problem: str = ""


def inspect(source: Path, work: Path, limits: Limits) -> Contract:
    """Unpack `source` into `work/package` and read its contract, all in a child. Raises InvalidModelError.

    `work` is an existing empty folder. Golden vectors made here go to `work/golden.npz`.
    """
    request = Request(str(source.resolve()), str(work.resolve()), limits)
    answer = child.run("inference.inspect", msgspec.json.encode(request), work, limits, "opening the model")
    report = msgspec.json.decode(answer, type=Report)
    if report.contract is None:
        raise InvalidModelError(report.problem)
    return report.contract


def _unlisted(package: Path, external: list[str]) -> None:
    """Everything in the store is content: a stray file would change the digest and nobody would know why."""
    known = _KNOWN | set(external)
    names = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file())
    stray = [name for name in names if name not in known and not name.lower().startswith(_DOCUMENTS)]
    missing = [name for name in external if name not in names]
    problems = [f"the package holds files nothing refers to: {', '.join(stray[:20])}; remove them"] if stray else []
    problems += [f"the model keeps weights in {name!r}, which is not in the package: add it" for name in missing]
    if problems:
        raise InvalidModelError("\n".join(problems))


def _stem(source: Path) -> str:
    """A name for a bare .onnx, by the rule for names in model.yaml."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in source.stem.lower()).strip("-")
    return kept[:100] or "model"


def _graph(source: Path, package: Path, limits: Limits, *, bare: bool) -> Contract:
    """The contract by the graph alone. The runtime sees the file only after these checks."""
    from inference import graph

    model = graph.parse(package / "model.onnx", limits)
    nodes = graph.count(model, limits)
    problems = graph.versions_problem(model) + graph.foreign_operators(model)
    if problems:
        raise InvalidModelError("\n".join(problems))
    external = graph.external_files(model)
    if bare:
        from inference.unpack import fetch_external

        fetch_external(source, package, external, limits)
    _unlisted(package, external)
    from inference.adapters import ort

    inputs, outputs = ort.contract(package / "model.onnx")
    return Contract(
        name=_stem(source), version=str(model.model_version), opset=graph.opset(model), ir_version=model.ir_version,
        nodes=nodes, inputs=inputs, outputs=outputs,
    )


def _manifest(contract: Contract, path: Path, limits: Limits) -> Contract:
    from inference import manifest

    if path.stat().st_size > limits.manifest_bytes:
        message = f"model.yaml is larger than {limits.manifest_bytes} bytes: shorten it"
        raise InvalidModelError(message)
    try:
        stated = manifest.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        message = "model.yaml is not UTF-8: save it as UTF-8"
        raise InvalidModelError(message) from error
    inputs, outputs = manifest.apply(stated, contract.inputs, contract.outputs)
    plain = stated.model_dump(mode="json", exclude_none=True)
    return replace(
        contract, name=stated.name, version=stated.version, inputs=inputs, outputs=outputs, manifest=plain
    )


def _golden(contract: Contract, work: Path, limits: Limits) -> Contract:
    """Check the package's golden vectors, or make some with the CPU reference; and what its ranges are found by."""
    from inference import golden

    feeds = work / "package" / golden.FEEDS
    if feeds.is_file():
        problems = golden.misfits(golden.read(feeds, limits.golden_bytes).inputs, contract.inputs)
        if problems:
            raise InvalidModelError("\n".join(problems))
    given = work / "package" / "golden.npz"
    if given.is_file():
        problems = golden.check(golden.read(given, limits.golden_bytes), contract.inputs, contract.outputs)
        if problems:
            raise InvalidModelError("\n".join(problems))
        return replace(contract, golden="package/golden.npz")
    try:
        _make(contract, work)
    except InferenceError as error:
        return replace(contract, note=f"no golden vectors could be made ({error}); add a golden.npz to the package")
    return replace(contract, golden="golden.npz")


def _make(contract: Contract, work: Path) -> None:
    from inference import golden
    from inference.vendors import cpu

    model = Model(
        digest="", sm3="", name=contract.name, version=contract.version, path=work / "package" / "model.onnx",
        inputs=contract.inputs, outputs=contract.outputs, opset=contract.opset, ir_version=contract.ir_version,
        nodes=contract.nodes, manifest=contract.manifest,
    )
    device, = cpu.backend().devices()
    session = cpu.backend().prepare(model, device, Options())
    golden.write(golden.make(session, model.inputs, f"{device.backend} on the CPU at import"), work / "golden.npz")


def examine(request: Request) -> Report:
    """All checks of one package, in the child."""
    from inference.unpack import unpack

    source, work, limits = Path(request.source), Path(request.work), request.limits
    try:
        bare = unpack(source, work / "package", limits)
        contract = _graph(source, work / "package", limits, bare=bare)
        stated = work / "package" / "model.yaml"
        if stated.is_file():
            contract = _manifest(contract, stated, limits)
        return Report(_golden(contract, work, limits))
    except (InvalidModelError, UnsupportedModelError) as error:
        return Report(problem=str(error))
    except MemoryError:
        return Report(problem=f"opening the model needs more than {limits.memory_bytes // MIB} MiB of memory")


def main() -> None:
    """The child: a request on stdin, a report in the work folder."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    child.confine(request.limits)
    Path(request.work, child.REPORT).write_bytes(msgspec.json.encode(examine(request)))


if __name__ == "__main__":
    main()
