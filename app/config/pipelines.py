"""The pipelines of a plant file: models must fit the tags, rules must name outputs, packages give the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.config import windows
from app.config.constants import fitted, uncarried
from app.config.desired import WantedInput, WantedOutput, WantedPipeline
from app.config.document import nearest
from app.config.memories import memories
from app.config.windows import Cut
from app.plant.schemas import OutputEntry, spread
from inference import names as vendors
from inference.devices import entry as entry_of
from inference.window import Input, Spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.config.check import Checker, Place
    from app.config.desired import WantedModel, WantedTag
    from app.plant.schemas import InputsEntry, Override, PipelineEntry, Quality
    from inference import Model, TensorSpec

NUMERIC: Final = {
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
}
QUALITY: Final[dict[str, Any]] = {
    "resample": "last",
    "policy": "uncertain",
    "hold_s": 0.0,
    "max_gap_s": 60.0,
    "use_received_time": False,
}
LANGUAGES: Final = ("en", "zh-CN")
UNUSABLE: Final = ({"string", "array"}, {"string", "float", "integer", "boolean"})
"""Datatypes of tags that cannot be in a window; and of those that are no window by themselves."""

class PipelineChecker:
    """Checks each pipeline against the tags and models of the same file."""

    def __init__(self, checker: Checker, tags: Mapping[str, WantedTag], models: Mapping[str, WantedModel]) -> None:
        """What was found right in the other sections."""
        self._checker = checker
        self._tags = tags
        self._models = models
        self._wanted_columns = 0
        """Of the pipeline in work: a mistaken tag is not also a model that does not fit."""

    def run(self, entries: Sequence[PipelineEntry]) -> dict[str, WantedPipeline]:
        """Every pipeline that makes sense, by name; the others are noted."""
        found = {}
        for index, entry in self._checker.unique("pipelines", entries, lambda e: e.name):
            one = self._one(("pipelines", index), entry)
            if one is not None:
                found[entry.name] = one
        self._orders(entries)
        return found

    def _orders(self, entries: Sequence[PipelineEntry]) -> None:
        """Newest first is for all pipelines of a gateway or for none: one message brings a record to all of them."""
        in_order = [one.name for one in entries if one.catch_up == "in_order"]
        for index, entry in enumerate(entries):
            if entry.catch_up != "newest_first":
                continue
            if in_order:
                self._wrong(
                    ("pipelines", index, "catch_up"), f"the pipeline {in_order[0]!r} is answered in order",
                    "a gateway catches up in one order: newest_first for all of its pipelines or for none",
                )  # fmt: skip
            if found := "; ".join(memories(entry)):
                self._wrong(
                    ("pipelines", index, "catch_up"), f"what has a memory is answered in order: {found}",
                    "without it, or catch_up: in_order",
                )  # fmt: skip

    def _one(self, place: Place, entry: PipelineEntry) -> WantedPipeline | None:
        self._references(place, entry)
        if entry.model not in self._models:
            if not self._declared(entry.model):
                self._wrong(
                    (*place, "model"), f"there is no model {entry.model!r}", nearest(entry.model, list(self._models))
                )
            return None
        model = self._models[entry.model].model
        chosen = self._input(place, entry, model)
        window = None if chosen is None else self._window(place, entry, model, chosen)
        if chosen is None or window is None:
            return None
        inputs = self._inputs((*place, "inputs"), entry, model, chosen, message=window.kind == "message")
        outputs = self._outputs(place, entry, model)
        self._rules(place, entry, outputs)
        if len(inputs) == self._wanted_columns and not window.shape:
            self._fits((*place, "model"), chosen, window.layout, window.length, len(inputs))
        made = WantedPipeline(
            entry,
            model.digest,
            chosen.name,
            "float32" if chosen.dtype == "float32" else "float64",
            window.layout,
            window.kind,
            window.step_s,
            window.length,
            window.hop,
            window.trigger,
            window.stop,
            window.shape,
            inputs,
            outputs,
            tuple(entry.rules),
        )
        if inputs:
            self._runs(place, made)
        return made

    def _runs(self, place: Place, made: WantedPipeline) -> None:
        """The windower itself is asked whether it would take this: nothing is applied that would then not run."""
        try:
            Spec(
                kind=made.kind,
                inputs=tuple(
                    Input(number, 1, one.resample, one.policy, one.hold_s, one.max_gap_s, one.use_received_time)
                    for number, one in enumerate(made.inputs, 1)
                ),
                step_ns=round(made.step_s * 1e9),
                length=made.length,
                hop=made.hop,
                lateness_ns=round(made.entry.window.lateness_s * 1e9),
                max_length_ns=round(made.entry.window.max_length_s * 1e9),
                shape=made.shape,
            )
        except ValueError as error:
            self._wrong((*place, "window"), str(error))

    def _wrong(self, place: Place, message: str, hint: str = "") -> None:
        self._checker.wrong(place, message, hint)

    def _declared(self, name: str) -> bool:
        """Whether the file has a model of this name that was itself a mistake."""
        written = self._checker.document.data.get("models") or []
        return any(isinstance(one, dict) and one.get("name") == name for one in written)

    def _known(self, place: Place, tag: str) -> bool:
        if tag in self._tags:
            return True
        if tag in self._checker.declared:
            return False
        self._wrong(place, f"there is no tag {tag!r}", nearest(tag, list(self._tags)))
        return False

    def _references(self, place: Place, entry: PipelineEntry) -> None:
        for field, tag in entry.context.items():
            self._known((*place, "context", field), tag)
        for index, device in enumerate(entry.devices):
            vendor = entry_of(device)[0].partition(":")[0]
            if vendor not in vendors():
                there = nearest(vendor, vendors())
                self._wrong((*place, "devices", index), f"there is no device {device!r}", there)

    def _input(self, place: Place, entry: PipelineEntry, model: Model) -> TensorSpec | None:
        there = [one.name for one in model.inputs]
        for what, given in (("constants", entry.inputs.constants), ("state", entry.inputs.state)):
            if unknown := next((name for name in given if name not in there), None):
                place = (*place, "inputs", what, unknown)
                self._wrong(place, f"the model has no input {unknown!r}", nearest(unknown, there))
                return None
        apart = {*entry.inputs.constants, *entry.inputs.state}
        names = [one.name for one in model.inputs if one.name not in apart or one.name == entry.inputs.input]
        if entry.inputs.input is None and len(names) != 1:
            self._wrong(
                (*place, "inputs"),
                f"the model has {len(names)} inputs that windows could feed",
                f"say which: input: {names[0] if names else '…'}",
            )
            return None
        chosen = next((one for one in model.inputs if one.name == (entry.inputs.input or names[0])), None)
        if chosen is None:
            self._wrong(
                (*place, "inputs", "input"),
                f"the model has no input {entry.inputs.input!r}",
                nearest(str(entry.inputs.input), names),
            )
        elif not self._others(place, entry, model, chosen):
            return None
        elif chosen.dtype not in NUMERIC:
            self._wrong((*place, "model"), f"the input {chosen.name!r} takes {chosen.dtype}, tags give numbers")
            return None
        return chosen

    def _others(self, place: Place, entry: PipelineEntry, model: Model, chosen: TensorSpec) -> bool:
        """Whether every input that no window feeds has a constant that it takes, or is carried from an output."""
        others = {one.name: one for one in model.inputs if one.name != chosen.name}
        given, state = entry.inputs.constants, entry.inputs.state
        missing, right = [name for name in others if name not in {*given, *state}], True
        for name, output in state.items():
            why = uncarried(name, output, given, others, model)
            if why:
                right = False
                self._wrong((*place, "inputs", "state", name), why)
        if missing:
            hint = f"inputs: {{constants: {{{missing[0]}: …}}}}"
            self._wrong((*place, "model"), f"the model needs other inputs too: {', '.join(missing)}", hint)
        for name in given:
            at = (*place, "inputs", "constants", name)
            if name not in others:
                right = False
                self._wrong(at, f"{name!r} is what windows feed")
                continue
            try:
                fitted(others[name], given[name])
            except ValueError as error:
                right = False
                self._wrong(at, str(error))
        return right and not missing

    def _window(self, place: Place, entry: PipelineEntry, model: Model, chosen: TensorSpec) -> Cut | None:
        raw = model.manifest.get("window")
        package: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        given = entry.window
        kind = windows.kind(given, package)
        if kind == "message":
            found = windows.of_messages(chosen, entry.inputs.layout, given.shape)
            if isinstance(found, str):
                self._wrong((*place, "window"), found)
                return None
            return found
        step_s = given.step_s or package.get("step_s") or 1.0
        length = given.length or package.get("length")
        hop = given.hop or max(1, round(float(package.get("hop_s") or step_s) / step_s))
        if length is None:
            self._wrong(
                (*place, "window"), "length is missing, and the model package does not say it", "window: {length: …}"
            )
            return None
        events = windows.EVENTS.get(kind, {})
        named: dict[str, str | None] = {what: getattr(given, what) or package.get(what) for what in events}
        for what, (needed, hint) in events.items():
            tag = named[what]
            if tag is not None:
                self._known((*place, "window", what), tag)
            elif needed:
                self._wrong((*place, "window"), f"a {kind} window needs {needed}", f"window: {{{hint}}}")
                return None
        trigger = named.get("trigger") or named.get("start")
        layout = entry.inputs.layout or {2: "NC", 3: "NTC"}.get(len(chosen.shape), "NTC")
        return Cut(kind, float(step_s), int(length), hop, layout, trigger, named.get("stop"))

    def _inputs(
        self, place: Place, entry: PipelineEntry, model: Model, chosen: TensorSpec, *, message: bool
    ) -> tuple[WantedInput, ...]:
        """`message`: of one tag whose readings are windows by themselves."""
        overrides = self._overrides(place, entry.inputs)
        defaults = _quality(model)
        found = []
        columns = self._columns(place, entry, model, chosen)
        self._wanted_columns = len(columns)
        for index, name in columns:
            if not self._known((*place, "tags", index), name):
                continue
            datatype = self._tags[name].datatype
            if datatype in UNUSABLE[message]:
                holds = "an array or an image" if message else "numbers"
                self._wrong((*place, "tags", index), f"the tag {name!r} holds {datatype}, a window holds {holds}")
                continue
            found.append(WantedInput(name, **_merged(defaults, entry.inputs, overrides.get(name))))
        return tuple(found)

    def _columns(self, place: Place, entry: PipelineEntry, model: Model, chosen: TensorSpec) -> list[tuple[int, str]]:
        if entry.inputs.tags:
            return [
                (index, name)
                for index, pattern in enumerate(entry.inputs.tags)
                for name in self._spread((*place, "tags", index), pattern)
            ]
        declared = model.manifest.get("inputs")
        for one in declared if isinstance(declared, list | tuple) else ():
            if one.get("name") == chosen.name and one.get("columns"):
                return [(index, str(column["tag"])) for index, column in enumerate(one["columns"])]
        self._wrong(place, "tags is missing, and the model package does not name its columns", "inputs: {tags: […]}")
        return []

    def _spread(self, place: Place, pattern: str) -> list[str]:
        try:
            return spread(pattern)
        except ValueError as error:
            self._wrong(place, str(error))
            return []

    def _overrides(self, place: Place, inputs: InputsEntry) -> dict[str, Override]:
        found = {}
        for index, override in enumerate(inputs.overrides):
            for position, pattern in enumerate(override.tags):
                for name in self._spread((*place, "overrides", index, "tags", position), pattern):
                    if self._known((*place, "overrides", index, "tags", position), name):
                        found[name] = override
        return found

    def _outputs(self, place: Place, entry: PipelineEntry, model: Model) -> tuple[WantedOutput, ...]:
        there = {one.name: one for one in model.outputs}
        wanted = entry.outputs or [name for name in there if name not in entry.inputs.state.values()]
        found = []
        for index, one in enumerate(wanted):
            named = one if isinstance(one, OutputEntry) else OutputEntry(name=one)
            if named.name not in there:
                self._wrong(
                    (*place, "outputs", index),
                    f"the model has no output {named.name!r}",
                    nearest(named.name, list(there)),
                )
                continue
            spec = there[named.name]
            found.append(WantedOutput(named.name, named.unit or spec.unit, named.description or spec.meaning))
        return tuple(found)

    def _rules(self, place: Place, entry: PipelineEntry, outputs: Sequence[WantedOutput]) -> None:
        names = [one.name for one in outputs]
        seen: set[str] = set()
        for index, rule in enumerate(entry.rules):
            at = (*place, "rules", index)
            if rule.name in seen:
                self._wrong((*at, "name"), f"the rule {rule.name!r} stands here twice")
            seen.add(rule.name)
            if rule.output not in names:
                self._wrong(
                    (*at, "output"), f"the pipeline publishes no output {rule.output!r}", nearest(rule.output, names)
                )
            if (rule.above is None) == (rule.below is None):
                self._wrong(at, "a rule needs either above or below")
            beyond = rule.clear is not None and (
                (rule.above is not None and rule.clear > rule.above)
                or (rule.below is not None and rule.clear < rule.below)
            )
            if beyond:
                self._wrong((*at, "clear"), "clear lies beyond the limit: the alarm would never be raised for good")
            for language in set(rule.message) - set(LANGUAGES):
                self._wrong((*at, "message", language), f"unknown language {language!r}", nearest(language, LANGUAGES))

    def _fits(self, place: Place, chosen: TensorSpec, layout: str, length: int, columns: int) -> None:
        """The model's own shape against what the pipeline makes; a free dimension takes anything."""
        made = {"NTC": (length, columns), "NCT": (columns, length), "NC": (length * columns,)}.get(layout)
        if made is None:
            self._wrong(place, f"layout {layout} is of windows of images", "window: {kind: message}")
            return
        shape = chosen.shape[1:]
        if len(shape) != len(made):
            self._wrong(
                place,
                f"the input {chosen.name!r} has {len(shape) + 1} dimensions, layout {layout} makes {len(made) + 1}",
                "see layout",
            )
        elif columns and any(has is not None and has != makes for has, makes in zip(shape, made, strict=True)):
            self._wrong(
                place,
                f"the model does not fit the tags: {chosen.name!r} takes {_shape(shape)}, "
                f"{columns} tags over {length} rows make {_shape(made)}",
                "compare the tags with the columns in model.yaml",
            )


def _shape(shape: Sequence[int | None]) -> str:
    return "[N, " + ", ".join("any" if one is None else str(one) for one in shape) + "]"


def _quality(model: Model) -> dict[str, Any]:
    """Defaults, then what the package says of its quality and window."""
    found = dict(QUALITY)
    window, quality = model.manifest.get("window"), model.manifest.get("quality")
    if isinstance(window, dict) and window.get("resample"):
        found["resample"] = window["resample"]
    if isinstance(quality, dict):
        if quality.get("bad") in {"hold", "interpolate"}:
            found["policy"] = quality["bad"]
        elif quality.get("uncertain") == "refuse":
            found["policy"] = "good"
        if quality.get("hold_s") is not None:
            found["hold_s"] = float(quality["hold_s"])
    return found


def _merged(defaults: Mapping[str, Any], *layers: Quality | None) -> dict[str, Any]:
    """The last layer that says something wins."""
    found = dict(defaults)
    for layer in layers:
        if layer is not None:
            found |= {name: getattr(layer, name) for name in QUALITY if getattr(layer, name) is not None}
    return found
