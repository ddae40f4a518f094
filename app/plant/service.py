"""Makes what is in force equal to a checked plant file: the difference first, then all of it in one transaction."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from sqlalchemy import func, select

from app import times
from app.access.seal import same, sealed
from app.access.service import audit
from app.certificates.service import override
from app.db import writing
from app.models.service import model_row
from app.models.tables import ModelRow
from app.northbound.tables import SubscriptionRow
from app.pipelines.schemas import PipelineSpec
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.plant.queries import path_in_force
from app.plant.tables import PlantRevisionRow
from app.sources.tables import ConnectionRow, TagRow, TagVersionRow
from app.thinning.service import put_in_force

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.config.desired import Desired, WantedConnection, WantedPipeline, WantedTag

NEW_TAG_WHEN: Final = ("datatype", "unit")
"""A change of these is another quantity: it gets an id of its own."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between what is in force and what is asked for."""

    kind: str
    """connection, tag, history, model, pipeline, northbound, plant."""
    name: str
    what: str
    """added, changed, removed, renamed."""
    detail: str = ""
    """old → new, secrets hidden."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did; `number` is the revision in force afterwards."""

    number: int
    changes: tuple[Change, ...]


class _Applier:
    """One comparison inside one transaction; writes as it compares, the caller commits or rolls back."""

    def __init__(self, session: Session, desired: Desired) -> None:
        self.session = session
        self.desired = desired
        self.changes: list[Change] = []
        self.now = times.now()
        self.ids: dict[str, int] = {}
        self.tags: dict[str, TagRow] = {}

    def note(self, kind: str, name: str, what: str, detail: str = "") -> None:
        self.changes.append(Change(kind, name, what, detail))

    def run(self) -> None:
        touched = self._connections()
        touched |= self._tags()
        self._bump(touched)
        self._history()
        self._models()
        self._pipelines()
        self._northbound()
        before = path_in_force(self.session)
        if before != self.desired.path:
            self.note("plant", self.desired.path or "-", "changed", f"{before or '-'} → {self.desired.path or '-'}")

    def _connections(self) -> set[str]:
        rows = {row.name: row for row in self.session.scalars(select(ConnectionRow))}
        touched: set[str] = set()
        for name, wanted in self.desired.connections.items():
            row = rows.get(name)
            if row is None:
                row = ConnectionRow(
                    name=name, connector=wanted.connector, options=sealed(wanted.options, wanted.secrets), revision=1,
                    priority=wanted.priority,
                )  # fmt: skip
                self.session.add(row)
                self.session.flush()
                self.note("connection", name, "added", wanted.connector)
            elif (
                row.retired_at is not None or row.connector != wanted.connector or not same(row.options, wanted.options)
            ):
                what = "added" if row.retired_at is not None else "changed"
                self.note("connection", name, what, wanted.differs_from(row.options))
                row.connector, row.options = wanted.connector, sealed(wanted.options, wanted.secrets)
                row.retired_at = None
                touched.add(name)
            self.ids[name] = row.id
            self._priority(row, wanted)
        for name, row in rows.items():
            if name not in self.desired.connections and row.retired_at is None:
                row.retired_at = self.now
                self.note("connection", name, "removed")
        return touched

    def _priority(self, row: ConnectionRow, wanted: WantedConnection) -> None:
        """It concerns the journal alone: the connection is read as before, under the same revision."""
        if row.priority != wanted.priority:
            self.note("connection", wanted.name, "changed", f"priority: {row.priority} → {wanted.priority}")
            row.priority = wanted.priority

    def _tags(self) -> set[str]:
        query = select(TagRow).where(TagRow.retired_at.is_(None), TagRow.connection_id.is_not(None))
        rows = {row.name: row for row in self.session.scalars(query)}
        names = {row.id: row.name for row in self.session.scalars(select(ConnectionRow))}
        gone = {name: row for name, row in rows.items() if name not in self.desired.tags}
        moved = {(names.get(row.connection_id or 0), row.address): row for row in gone.values()}
        touched: set[str] = set()
        for name, wanted in self.desired.tags.items():
            row = rows.get(name)
            if row is None:
                row = moved.pop((wanted.connection, wanted.address), None)
                if row is not None:
                    gone.pop(row.name, None)
            touched |= self._tag(wanted, row)
        for name, row in gone.items():
            row.retired_at = self.now
            touched.add(names.get(row.connection_id or 0, ""))
            self.note("tag", name, "removed")
        return touched

    def _tag(self, wanted: WantedTag, row: TagRow | None) -> set[str]:
        if row is not None:
            before = self._attributes(row)
            after = wanted.attributes()
            different = [key for key in after if before[key] != after[key]]
            if not different:
                self.tags[wanted.name] = row
                return set()
            detail = ", ".join(f"{key}: {before[key]} → {after[key]}" for key in different)
            self.note("tag", wanted.name, "renamed" if "name" in different else "changed", detail)
            if not set(different) & set(NEW_TAG_WHEN):
                self._write(row, wanted)
                row.revision += 1
                self._version(row, wanted)
                return {wanted.connection, str(before["connection"])}
            row.retired_at = self.now
        else:
            self.note("tag", wanted.name, "added", f"{wanted.connection} {wanted.address}")
        made = TagRow(revision=1)
        self._write(made, wanted)
        self.session.add(made)
        self.session.flush()
        self._version(made, wanted)
        return {wanted.connection}

    def _write(self, row: TagRow, wanted: WantedTag) -> None:
        row.name, row.connection_id, row.address = wanted.name, self.ids[wanted.connection], wanted.address
        row.datatype, row.unit, row.place = wanted.datatype, wanted.unit, wanted.place
        row.description, row.options = wanted.description, dict(wanted.options)
        self.tags[wanted.name] = row

    def _version(self, row: TagRow, wanted: WantedTag) -> None:
        self.session.add(
            TagVersionRow(tag_id=row.id, revision=row.revision, since=self.now, attributes=wanted.attributes())
        )

    def _attributes(self, row: TagRow) -> dict[str, Any]:
        home = next((name for name, number in self.ids.items() if number == row.connection_id), "")
        return {
            "name": row.name,
            "connection": home,
            "address": row.address,
            "datatype": row.datatype,
            "unit": row.unit,
            "place": row.place,
            "description": row.description,
            "options": row.options or {},
        }

    def _history(self) -> None:
        """Classes, and which tag has which: nothing that a connection would have to be read anew for."""
        for name, what, detail in put_in_force(self.session, self.desired.classes.values(), self.now):
            self.note("history", name, what, detail)
        added = {one.name for one in self.changes if (one.kind, one.what) == ("tag", "added")}
        for name, tag in self.tags.items():
            wanted_class = self.desired.tags[name].history or None
            if tag.history == wanted_class:
                continue
            if name not in added:
                self.note("tag", name, "changed", f"history: {tag.history or '-'} → {wanted_class or '-'}")
            tag.history = wanted_class

    def _bump(self, touched: set[str]) -> None:
        """A connection whose options or tags changed is read under another revision."""
        for name in sorted(touched & self.ids.keys()):
            self.session.get_one(ConnectionRow, self.ids[name]).revision += 1

    def _models(self) -> None:
        for wanted in self.desired.models.values():
            if self.session.get(ModelRow, wanted.model.digest) is None:
                self.session.add(model_row(wanted.model, self.now))
                self.session.flush()
                self.note("model", wanted.name, "added", wanted.model.digest[:19])

    def _pipelines(self) -> None:
        rows = {row.name: row for row in self.session.scalars(select(PipelineRow))}
        for name, wanted in self.desired.pipelines.items():
            row = rows.get(name)
            if row is None:
                row = PipelineRow(name=name)
                self.session.add(row)
                self.session.flush()
            spec = self._spec(wanted).model_dump(mode="json")
            active = self.session.get(PipelineVersionRow, row.active_version) if row.active_version else None
            if active is not None and _as_now(active) == spec:
                continue
            number = self.session.scalar(
                select(func.max(PipelineVersionRow.number)).where(PipelineVersionRow.pipeline_id == row.id),
            )
            version = PipelineVersionRow(
                pipeline_id=row.id, number=(number or 0) + 1, model_digest=wanted.digest, spec=spec, created_at=self.now
            )
            self.session.add(version)
            self.session.flush()
            row.active_version = version.id
            self.note(
                "pipeline",
                name,
                "added" if active is None else "changed",
                _spec_difference(active, spec, version.number),
            )
        for name, row in rows.items():
            if name not in self.desired.pipelines and row.active_version is not None:
                row.active_version = None
                self.note("pipeline", name, "removed")

    def _output_tag(self, pipeline: str, wanted_name: str, unit: str, description: str) -> int:
        """The tag that an output is published under: permanent, made once."""
        name = f"{pipeline}.{wanted_name}"
        query = select(TagRow).where(TagRow.name == name, TagRow.connection_id.is_(None), TagRow.retired_at.is_(None))
        row = self.session.scalar(query)
        if row is None or row.unit != unit:
            if row is not None:
                row.retired_at = self.now
            row = TagRow(
                name=name,
                connection_id=None,
                address=f"{pipeline}/{wanted_name}",
                datatype="any",
                unit=unit,
                place="",
                description=description,
                options={},
                revision=1,
            )
            self.session.add(row)
            self.session.flush()
        return row.id

    def _spec(self, wanted: WantedPipeline) -> PipelineSpec:
        entry = wanted.entry
        events = {"trigger": wanted.trigger, "stop": wanted.stop}
        named = {what: self.tags[tag] for what, tag in events.items() if tag is not None}
        context = {field: self.tags[tag] for field, tag in entry.context.items()}
        return PipelineSpec.model_validate(
            {
                "name": entry.name,
                "model_digest": wanted.digest,
                "model_input": wanted.model_input,
                "cells": wanted.cells,
                "layout": wanted.layout,
                **{name: getattr(entry.inputs, name) for name in ("constants", "state")},
                "devices": entry.devices,
                "asset": entry.asset,
                "catch_up": entry.catch_up,
                "max_age_s": entry.max_age_s,
                "window": {
                    "kind": wanted.kind,
                    "step_s": wanted.step_s,
                    "length": wanted.length,
                    "hop": wanted.hop,
                    "lateness_s": entry.window.lateness_s,
                    "max_length_s": entry.window.max_length_s,
                    "shape": wanted.shape,
                    **{what: row.id for what, row in named.items()},
                    **{f"{what}_connection": row.connection_id or 0 for what, row in named.items()},
                },
                "inputs": [
                    asdict(one) | {"tag": self.tags[one.tag].id, "connection": self.tags[one.tag].connection_id}
                    for one in wanted.inputs
                ],
                "outputs": [
                    {
                        "name": one.name,
                        "tag": self._output_tag(entry.name, one.name, one.unit, one.description),
                        "tag_name": f"{entry.name}.{one.name}",
                        "unit": one.unit,
                        "description": one.description,
                    }
                    for one in wanted.outputs
                ],
                "rules": [rule.model_dump() for rule in wanted.rules],
                "context": {field: row.id for field, row in context.items()},
                "context_connection": next((row.connection_id or 0 for row in context.values()), 0),
            }
        )

    def _northbound(self) -> None:
        rows = {row.name: row for row in self.session.scalars(select(SubscriptionRow))}
        for name, wanted in self.desired.northbound.items():
            row, entry = rows.get(name), wanted.entry
            if row is None:
                self.session.add(
                    SubscriptionRow(
                        name=name,
                        connector=entry.connector,
                        options=sealed(wanted.options, wanted.secrets),
                        topic=entry.topic,
                        revision=1,
                        enabled=True,
                    )
                )
                self.note("northbound", name, "added", entry.connector)
                continue
            like = row.connector == entry.connector and row.topic == entry.topic and same(row.options, wanted.options)
            if not row.enabled or not like:
                self.note("northbound", name, "changed" if row.enabled else "added")
                row.connector, row.topic, row.enabled = entry.connector, entry.topic, True
                row.options = sealed(wanted.options, wanted.secrets)
                row.revision += 1
        for name, row in rows.items():
            if name not in self.desired.northbound and row.enabled:
                row.enabled = False
                row.revision += 1
                self.note("northbound", name, "removed")


def _as_now(active: PipelineVersionRow) -> Mapping[str, Any]:
    """As it would be written now: what could not be said when it was made is as if nothing were said."""
    try:
        return PipelineSpec.model_validate(active.spec).model_dump(mode="json")
    except ValidationError:
        return dict(active.spec)


def _spec_difference(active: PipelineVersionRow | None, spec: Mapping[str, Any], number: int) -> str:
    if active is None:
        return f"version {number}"
    before = _as_now(active)
    return f"version {number}: {', '.join(key for key in spec if before.get(key) != spec[key])}"


def difference(engine: Engine, desired: Desired) -> tuple[Change, ...]:
    """What an apply would change; nothing is written."""
    with writing(engine) as session:
        applier = _Applier(session, desired)
        applier.run()
        session.rollback()
    return tuple(applier.changes)


def apply(engine: Engine, desired: Desired, who: str, overridden: Mapping[str, str] | None = None) -> Applied:
    """Make it so, in one transaction. Without a difference nothing is written and no revision is made.

    `overridden`: pipelines that are put in force though their model did not pass its check, and why.
    """
    with writing(engine) as session:
        number = session.scalar(select(func.max(PlantRevisionRow.number))) or 0
        applier = _Applier(session, desired)
        applier.run()
        if not applier.changes:
            session.rollback()
            return Applied(number, ())
        override(session, who, overridden or {})
        digest = f"sha256:{hashlib.sha256(desired.text.encode()).hexdigest()}"
        session.add(
            PlantRevisionRow(
                number=number + 1,
                document=desired.text,
                file=desired.file,
                digest=digest,
                path=desired.path,
                applied_at=applier.now,
                applied_by=who,
            )
        )
        audit(
            session, who, "plant_applied", f"revision {number + 1}", {"changes": len(applier.changes), "digest": digest}
        )
    return Applied(number + 1, tuple(applier.changes))
