"""A checked plant file as plain facts: what should be in force, names not yet turned into ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.access.seal import SealError, opened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.plant.schemas import HistoryClass, NorthboundEntry, PipelineEntry, RuleEntry
    from inference import Model


@dataclass(frozen=True, slots=True)
class WantedConnection:
    """One connection, options checked by its connector."""

    name: str
    connector: str
    options: Mapping[str, Any]
    secrets: frozenset[str]
    history: str = ""
    """Class of its tags; empty where there is none."""
    priority: str = "normal"

    def differs_from(self, stored: Mapping[str, Any] | None) -> str:
        """Option by option, old → new, secrets hidden. `stored`: its sealed options; empty where nothing differs."""
        after = dict(self.options)
        try:
            before = opened(stored or {})
        except SealError:
            before = dict(stored or {})  # the key is another one: sealed again under the one in use

        def shown(key: str, values: Mapping[str, Any]) -> str:
            hidden = key in self.secrets or isinstance(values.get(key), dict)
            return "••••" if hidden and key in values else str(values.get(key, "-"))

        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return ", ".join(f"{key}: {shown(key, before)} → {shown(key, after)}" for key in keys)


@dataclass(frozen=True, slots=True)
class WantedTag:
    """One tag, groups and ranges spread out."""

    name: str
    connection: str
    address: str
    datatype: str
    unit: str
    place: str
    description: str
    options: Mapping[str, Any]
    history: str = ""
    """Class of its readings, its own, its connection's or the plant's; empty where there is none."""

    def attributes(self) -> dict[str, Any]:
        """What a tag version keeps."""
        return {
            "name": self.name,
            "connection": self.connection,
            "address": self.address,
            "datatype": self.datatype,
            "unit": self.unit,
            "place": self.place,
            "description": self.description,
            "options": dict(self.options),
        }


@dataclass(frozen=True, slots=True)
class WantedModel:
    """A model: from a path, checked into a store, or one that was imported before."""

    name: str
    source: Path | None
    model: Model


@dataclass(frozen=True, slots=True)
class WantedInput:
    """One column of a window."""

    tag: str
    resample: str
    policy: str
    hold_s: float
    max_gap_s: float
    use_received_time: bool


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """One output to publish."""

    name: str
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class WantedPipeline:
    """One pipeline with every default filled in."""

    entry: PipelineEntry
    digest: str
    model_input: str
    cells: str
    layout: str
    kind: str
    step_s: float
    length: int
    hop: int
    trigger: str | None
    """Of a cycle: the tag whose change ends it, or that becomes active when it starts."""
    stop: str | None
    shape: tuple[int, ...]
    """Of a message's array or image; empty for other windows."""
    inputs: tuple[WantedInput, ...]
    outputs: tuple[WantedOutput, ...]
    rules: tuple[RuleEntry, ...]


@dataclass(frozen=True, slots=True)
class WantedSubscription:
    """One northbound consumer, options checked by its connector."""

    entry: NorthboundEntry
    options: Mapping[str, Any]
    secrets: frozenset[str]


@dataclass(frozen=True, slots=True)
class Desired:
    """All that a plant file asks for."""

    text: str
    file: str
    """Where it lies, absolute."""
    path: str
    connections: Mapping[str, WantedConnection] = field(default_factory=dict)
    tags: Mapping[str, WantedTag] = field(default_factory=dict)
    models: Mapping[str, WantedModel] = field(default_factory=dict)
    pipelines: Mapping[str, WantedPipeline] = field(default_factory=dict)
    northbound: Mapping[str, WantedSubscription] = field(default_factory=dict)
    classes: Mapping[str, HistoryClass] = field(default_factory=dict)
    """Of the history, by name."""
