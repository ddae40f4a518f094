"""What a JSON payload seems to be: SenML, Neuron, ThingsBoard, or any document with values, times and units in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

from connectors import NO_TIME
from connectors.mqtt import layouts
from connectors.mqtt.body import Body
from connectors.mqtt.guess import (
    LABEL_NAMES,
    LEAVES,
    LONGEST_UNIT,
    QUALITY_NAMES,
    TIME_NAMES,
    UNIT_NAMES,
    VALUE_NAMES,
    Guess,
    Leaf,
    known,
    pointer_of,
    quality_options,
    time_options,
)
from connectors.mqtt.layout_senml import Pack
from connectors.mqtt.layouts import Named, Point
from connectors.mqtt.options import TagOptions
from connectors.mqtt.values import UnusableError

DEEPEST: Final = 8
MOST_RECORDS: Final = 50
BY_POSITION: Final = "by its position in an array, which must stay"
SENML_VALUES: Final = frozenset({"v", "vs", "vb", "vd", "s"})
NAMED: Final = ("senml", "neuron", "thingsboard")


def guess(document: object, body: Body, common: Mapping[str, object]) -> Guess:
    """What a parsed payload seems to be; `common` are options that all tags of it need."""
    for layout, options in _candidates(document, body.received):
        found = _named(layout, body, {**common, **options})
        if found is not None:
            return found
    if not isinstance(document, dict | list):
        return Guess("json", (Leaf("", "", document, common),))
    leaves = list(_limited(_Document(document, body.received, common).leaves()))
    return Guess("json", tuple(leaves[:LEAVES]), cut=len(leaves) > LEAVES)


def _limited(leaves: Iterator[Leaf]) -> Iterator[Leaf]:
    for _, leaf in zip(range(LEAVES + 1), leaves, strict=False):
        yield leaf


def _records(value: object) -> TypeGuard[list[dict[str, object]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _candidates(document: object, now: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Layouts that a document has the marks of, with what their tags need."""
    if _records(document) and any(SENML_VALUES & one.keys() and {"n", "bn"} & one.keys() for one in document):
        yield "senml", {}
    if isinstance(document, dict) and "timestamp" in document and _neuron(document):
        form = time_options(document["timestamp"], now, "timestamp") or {}
        yield "neuron", {key: value for key, value in form.items() if value != "ms"}
    first = document[0] if isinstance(document, list) and document else document
    if isinstance(first, dict) and "ts" in first and isinstance(first.get("values"), dict):
        yield "thingsboard", _of_thingsboard(first, now)
    if isinstance(document, dict) and document and all(_telemetry(value) for value in document.values()):
        inner = next(iter(document.values()))[0]
        yield "thingsboard", {"layout": {"gateway": True}, **_of_thingsboard(inner, now)}


def _of_thingsboard(entry: Mapping[str, object], now: int) -> dict[str, object]:
    form = time_options(entry["ts"], now, "ts") or {}
    return {key: value for key, value in form.items() if key == "time_format" and value != "ms"}


def _neuron(document: Mapping[str, object]) -> bool:
    tags = document.get("tags")
    return isinstance(document.get("values"), dict) or (_records(tags) and "name" in tags[0])


def _telemetry(value: object) -> bool:
    return _records(value) and "ts" in value[0] and isinstance(value[0].get("values"), dict)


def _named(layout: str, body: Body, options: dict[str, object]) -> Guess | None:
    """The values of a message whose layout gives them names, read by the layout itself; None where it cannot."""
    try:
        tag = TagOptions.model_validate({"format": layout, **options})
        found = layouts.load(layout).reader(tag, tag.of_layout()).read(body)
    except (UnusableError, ValueError):
        return None
    named = found.named if isinstance(found, Pack) else found
    if not isinstance(named, Named) or not named.found:
        return None
    units = found.units if isinstance(found, Pack) else {}
    leaves = [
        _of_points(parts, points, next((u for u in units.get(parts, ()) if u), ""), options)
        for parts, points in named.found.items()
    ]
    return Guess(layout, tuple(leaves[:LEAVES]), cut=len(leaves) > LEAVES)


def _of_points(parts: tuple[str, ...], points: Sequence[Point], unit: str, options: dict[str, object]) -> Leaf:
    values = [value for _, _, value in points if not isinstance(value, UnusableError)]
    value = values[-1] if values else None
    timed = any(time != NO_TIME for time, _, _ in points)
    return Leaf(pointer_of(parts), parts[-1], value, options, unit, "" if timed else "without a time of its own")


@dataclass(frozen=True, slots=True)
class _Around:
    """What holds for the values of an object and those within."""

    options: Mapping[str, object]
    label: str = ""
    unit: str = ""
    note: str = ""


class _Document:
    """A document of no layout that is known by name."""

    def __init__(self, document: object, now: int, common: Mapping[str, object]) -> None:
        self._document, self._now, self._common = document, now, common

    def leaves(self) -> Iterator[Leaf]:
        """Every value that could be a tag."""
        yield from self._walk(self._document, (), _Around(self._common))

    def _walk(self, value: object, parts: tuple[str, ...], around: _Around) -> Iterator[Leaf]:
        if isinstance(value, dict) and value and len(parts) < DEEPEST:
            yield from self._object(value, parts, around)
        elif _records(value) and len(parts) < DEEPEST:
            yield from self._array(value, parts, around)
        else:
            name = around.label or (parts[-1] if parts else "")
            yield Leaf(pointer_of(parts), name, value, around.options, around.unit, around.note)

    def _object(self, value: Mapping[str, object], parts: tuple[str, ...], around: _Around) -> Iterator[Leaf]:
        inside, taken = self._inside(value, parts, around)
        for key, inner in value.items():
            if key in taken:
                continue
            labelled = inside.label if known(key, VALUE_NAMES) else ""
            unit = inside.unit if not isinstance(inner, str) else ""
            yield from self._walk(inner, (*parts, key), _Around(inside.options, labelled, unit, inside.note))

    def _inside(
        self, value: Mapping[str, object], parts: tuple[str, ...], around: _Around
    ) -> tuple[_Around, set[str]]:
        """What an object says of its own values, and the keys that say it."""
        own, taken = self._stamp(value, parts)
        kept = {key: one for key, one in around.options.items() if "time" not in own or not key.startswith("time")}
        unit, label = _text(value, UNIT_NAMES), _text(value, LABEL_NAMES)
        has_value = any(known(key, VALUE_NAMES) for key in value)
        taken |= {key for key in (unit, label if has_value else None) if key is not None}
        called = str(value[label]) if label is not None else parts[-1] if parts else ""
        shown = str(value[unit])[:LONGEST_UNIT] if unit is not None else ""
        return _Around({**kept, **own}, called if has_value else "", shown, around.note), taken

    def _stamp(self, value: Mapping[str, object], parts: tuple[str, ...]) -> tuple[dict[str, object], set[str]]:
        """The options for time and quality that stand beside the values, and their keys; names that mean time first."""
        said, taken = dict[str, object](), set[str]()
        for key, inner in sorted(value.items(), key=lambda item: not known(item[0], TIME_NAMES)):
            place, form = pointer_of((*parts, key)), time_options(inner, self._now, key)
            if form is not None and "time" not in said:
                said |= {"time": place, **form}
                taken.add(key)
            elif known(key, QUALITY_NAMES) and "quality" not in said:
                options = quality_options(inner, place)
                said |= options or {}
                taken |= {key} if options is not None else set()
        return said, taken

    def _array(
        self, records: Sequence[Mapping[str, object]], parts: tuple[str, ...], around: _Around
    ) -> Iterator[Leaf]:
        """Samples of the same things one after another, or different things in one list."""
        labels = {str(v) for one in records for k, v in one.items() if known(k, LABEL_NAMES) and isinstance(v, str)}
        if len(labels) > 1 or "each" in around.options or (len(records) == 1 and not self._timed(records[0])):
            for index, record in enumerate(records[:MOST_RECORDS]):
                note = _Around(around.options, "", "", BY_POSITION)
                yield from self._walk(record, (*parts, str(index)), note)
            return
        # Pointers start at a record now, those of the message behind `^`.
        above = {
            key: f"^{value}" if key in {"time", "quality"} else value for key, value in around.options.items()
        }
        yield from self._walk(records[-1], (), _Around({**above, "each": pointer_of(parts)}, note=around.note))

    def _timed(self, record: Mapping[str, object]) -> bool:
        return any(time_options(value, self._now, key) is not None for key, value in record.items())


def _text(value: Mapping[str, object], names: frozenset[str]) -> str | None:
    """The first key of these names that holds a text."""
    return next((key for key, inner in value.items() if known(key, names) and isinstance(inner, str)), None)
