"""The gate before activation: a model passes its check on the devices of a pipeline, or a person says why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.certificates import queries, service
from app.pipelines.queries import pipelines
from inference.devices import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from app.certificates.tables import CertificateRow
    from app.config.desired import Desired


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pipeline that is not activated, and why, in English and in Chinese."""

    pipeline: str
    en: str
    zh: str


class Gate:
    """The checks of one apply; a model is checked once on a device, however many pipelines want it there."""

    def __init__(self, engine: Engine, store: Path, who: str) -> None:
        """`who`: asks for it. Nothing is checked yet."""
        self._engine, self._store, self._who = engine, store, who
        self._found: dict[tuple[str, str], CertificateRow] = {}

    def refusals(self, desired: Desired) -> Iterator[Refusal]:
        """Pipelines whose model does not pass. One whose model and devices stay as they are is not checked again.

        A device that computes wrongly, too slowly or not to the end refuses the pipeline. One that is absent, or does
        not take the model, is passed over, as it is while the pipeline runs; one of the order has to pass.
        """
        same = {
            (name.name, version.model_digest, tuple(version.spec["devices"]))
            for name, version in pipelines(self._engine)
            if version is not None
        }
        for name, wanted in desired.pipelines.items():
            devices = tuple(wanted.entry.devices)
            if (name, wanted.digest, devices) not in same:
                yield from self._refused(name, wanted.digest, devices)

    def _refused(self, pipeline: str, model: str, devices: tuple[str, ...]) -> Iterator[Refusal]:
        rows = [self._checked(model, device) for device in devices]
        failed = [row for row in rows if row.outcome == "failed"]
        if not failed and any(self._passed(row, device) for row, device in zip(rows, devices, strict=True)):
            return
        why = [(row.device, service.reason(row)) for row in failed or rows]
        en = "; ".join(f"{device}: {text['en']}" for device, text in why)
        yield Refusal(pipeline, en, "；".join(f"{device}：{text['zh-CN']}" for device, text in why))

    def _checked(self, model: str, device: str) -> CertificateRow:
        key = (model, device)
        if key not in self._found:
            asked = service.request(self._store, model, device)
            self._found[key] = service.certify(self._engine, asked, self._who, "apply")
        return self._found[key]

    def _passed(self, row: CertificateRow, device: str) -> bool:
        """Here; or where a worker has the device and this host does not."""
        if row.outcome != "absent":
            return row.passed
        elsewhere = queries.newest(self._engine, row.model_digest, entry(device)[0], row.precision)
        return elsewhere is not None and elsewhere.passed
