"""Opens, checks and keeps ONNX models and model packages in a store addressed by their content."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.hazmat.primitives import hashes

from inference import InvalidModelError, Model
from inference.inspect import Contract, inspect
from inference.limits import MIB, Limits
from inference.unpack import discard

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def _hash(path: Path, kinds: tuple[Callable[[], hashes.HashAlgorithm], ...]) -> list[str]:
    """Hexadecimal digests of one file, read once."""
    running = [hashes.Hash(kind()) for kind in kinds]
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            for each in running:
                each.update(chunk)
    return [each.finalize().hex() for each in running]


def _digests(package: Path, *kinds: Callable[[], hashes.HashAlgorithm]) -> list[str]:
    """For each kind, the digest of the lines `sha256sum` prints for the files in byte order of their names."""
    totals = [hashes.Hash(kind()) for kind in kinds]
    files = sorted((p.relative_to(package).as_posix().encode(), p) for p in package.rglob("*") if p.is_file())
    for name, path in files:
        for total, one in zip(totals, _hash(path, kinds), strict=True):
            total.update(one.encode() + b"  " + name + b"\n")
    return [total.finalize().hex() for total in totals]


def _sync(folder: Path) -> None:
    """Force a tree to the disk, so that a rename after it never shows a half-written model after a power cut."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Kept(msgspec.Struct, frozen=True):
    """`contract.json` of a stored model."""

    sm3: str
    contract: Contract


def import_model(source: Path, store: Path, *, limits: Limits | None = None) -> Model:
    """Check a package (folder, zip) or a bare .onnx in a child process and keep it in the store.

    The same content gives the same model, whatever it was packed in, and keeps the name of its first import. Nothing
    is visible in the store before it is whole. Raises InvalidModelError; its message has one line for each mistake.
    """
    home = store / "sha256"
    _make(home)
    if not source.exists():
        message = f"{source} does not exist: give a folder, a .zip or an .onnx file"
        raise InvalidModelError(message)
    work = Path(tempfile.mkdtemp(prefix=".import-", dir=store))
    try:
        contract = inspect(source, work, limits or Limits())
        sha256, sm3 = _digests(work / "package", hashes.SHA256, hashes.SM3)
        kept = _Kept(f"sm3:{sm3}", contract)
        (work / "contract.json").write_bytes(msgspec.json.encode(kept))
        _publish(work, home / sha256)
    finally:
        discard(work)
    return load_model(store, f"sha256:{sha256}")


def _publish(work: Path, target: Path) -> None:
    if not target.exists():
        work.chmod(0o755)
        _sync(work)
        try:
            work.rename(target)
        except OSError:
            # Another import of the same content was first; a rename never replaces a folder that holds something.
            if not target.is_dir():
                raise
    # Whoever was first: a row that names it outlives a power cut, and so must its name here.
    for folder in (work.parent, target.parent):
        _sync_entry(folder)


def _make(folder: Path) -> None:
    """Make a folder, and those above it that are not there, so that what is in them stays."""
    if folder.is_dir():
        # Whoever made it may have been killed before this. Where it is a mount, or not ours, it has long been there.
        with suppress(OSError):
            _sync_entry(folder.parent)
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_entry(folder.parent)


def _sync_entry(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_model(store: Path, digest: str) -> Model:
    """A model of the store. Its content is hashed again: what a disk or a hand has changed is never run.

    Raises InvalidModelError for an unknown digest and for changed content.
    """
    if not _DIGEST.fullmatch(digest):
        message = f"{digest!r} is no digest: write sha256: and 64 hexadecimal digits"
        raise InvalidModelError(message)
    home = store / "sha256" / digest.removeprefix("sha256:")
    if not (home / "contract.json").is_file():
        message = f"the store has no model {digest}: import it first"
        raise InvalidModelError(message)
    if f"sha256:{_digests(home / 'package', hashes.SHA256)[0]}" != digest:
        message = f"the stored model {digest} has changed on the disk: remove {home} and import it again"
        raise InvalidModelError(message)
    kept = msgspec.json.decode((home / "contract.json").read_bytes(), type=_Kept)
    contract = kept.contract
    return Model(
        digest=digest, sm3=kept.sm3, name=contract.name, version=contract.version, path=home / "package" / "model.onnx",
        inputs=contract.inputs, outputs=contract.outputs, opset=contract.opset, ir_version=contract.ir_version,
        nodes=contract.nodes, manifest=contract.manifest, golden=home / contract.golden if contract.golden else None,
    )


def digests(store: Path) -> tuple[str, ...]:
    """Every model of the store, sorted."""
    found = (store / "sha256").glob("*/contract.json")
    return tuple(sorted(f"sha256:{path.parent.name}" for path in found))
