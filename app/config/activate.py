"""The check a model passes before a pipeline uses it: on the first device that takes it, golden vectors and latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.pipelines.queries import pipelines
from inference import InferenceError, Options
from inference.check import verify
from inference.devices import choose, precision
from inference.model import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from app.config.desired import Desired


def refusals(engine: Engine, desired: Desired, store: Path) -> Iterator[tuple[str, str]]:
    """Pipeline and reason for each whose model fails its check; a model that stays as it is is not checked again."""
    passed = {
        (version.model_digest, tuple(version.spec["devices"]))
        for _, version in pipelines(engine)
        if version is not None
    }
    for name, wanted in desired.pipelines.items():
        key = (wanted.digest, tuple(wanted.entry.devices))
        if key in passed:
            continue
        passed.add(key)
        reason = _reason(wanted.digest, key[1], store)
        if reason:
            yield name, reason


def _reason(digest: str, devices: tuple[str, ...], store: Path) -> str:
    try:
        model = load_model(store, digest)
        session, device, refused = choose(devices, model, Options(threads=1))
    except InferenceError as error:
        return str(error)
    try:
        return "; ".join(verify(model, device, session, precision=precision(devices, refused)).failures)
    finally:
        session.close()
