"""Checks a plant file whole: syntax, keys, references, addresses, models; every mistake at once, with its line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

import connectors
from app import settings
from app.config.classes import checked_classes, unknown
from app.config.desired import Desired, WantedConnection, WantedModel, WantedSubscription
from app.config.document import Document, DocumentError, Mistake, nearest, parse, read
from app.config.pipelines import PipelineChecker
from app.config.secrets import validated
from app.config.tags import spread_tags
from app.plant import schemas
from inference import InferenceError, signature
from inference.model import import_model, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from inference import Model

Place: TypeAlias = tuple[str | int, ...]
MAX_MISTAKES: Final = 200
MAX_ROUNDS: Final = 50
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "connections": schemas.ConnectionEntry,
    "models": schemas.ModelEntry,
    "pipelines": schemas.PipelineEntry,
    "northbound": schemas.NorthboundEntry,
    "plant": schemas.PlantPath,
    "tag": schemas.TagEntry,
    "group": schemas.TagGroup,
    "window": schemas.WindowEntry,
    "inputs": schemas.InputsEntry,
    "rules": schemas.RuleEntry,
    "outputs": schemas.OutputEntry,
    "overrides": schemas.Override,
    "history": schemas.HistoryEntry,
    "classes": schemas.HistoryClass,
    "thin": schemas.ThinStep,
}
"""What the words on the way to a mistake stand for."""
Entry = TypeVar("Entry")


class Checker:
    """One pass over one document."""

    def __init__(self, document: Document, store: Path, sent: Mapping[str, str] | None = None) -> None:
        """`store` is where models are imported to.

        `sent`: the document came over the network with these secrets, by reference (`env:NAME`, `file:PATH`). It may
        name neither files nor variables of this box: whoever sends it need not be allowed to read them.
        """
        self.sent = sent
        self.document = document
        self.store = store
        self.base = Path(document.file).resolve().parent
        self.mistakes: list[Mistake] = []
        self._incomplete: set[Place] = set()
        """Places that something was left out of: what they lack is no second mistake."""
        self.tags_file = ""
        """Where rows of a CSV stand: places `("tags_file", line)`."""
        self.declared: set[str] = set()
        """Names of tags that are in the file, mistaken or not: what refers to them is no second mistake."""

    def wrong(self, place: Place, message: str, hint: str = "") -> None:
        """Note a mistake at a place of the document, unless it follows from one that was noted there."""
        if len(place) > 1 and place[0] == "tags_file" and isinstance(place[1], int):
            self.mistakes.append(Mistake(self.tags_file, place[1], 1, message, hint))
            return
        if self.document.known(place) in self._incomplete:
            return
        self.mistakes.append(self.document.at(place, message, hint))

    def run(self) -> Desired:
        """What the document asks for. DocumentError with every mistake when there is one."""
        file = self._file()
        classes = checked_classes(self, file)
        connections = self._connections(file.connections)
        tags = spread_tags(self, file, connections)
        models = self._models(file.models)
        pipelines = PipelineChecker(self, tags, models).run(file.pipelines)
        northbound = self._northbound(file.northbound)
        if self.mistakes:
            raise DocumentError(self.mistakes[:MAX_MISTAKES])
        where = str(Path(self.document.file).resolve())
        plant = file.plant.path()
        return Desired(self.document.text, where, plant, connections, tags, models, pipelines, northbound, classes)

    def _file(self) -> schemas.PlantFile:
        try:
            return schemas.PlantFile.model_validate(self.document.data)
        except ValidationError as error:
            for one in error.errors(include_input=False, include_url=False):
                place = tuple(part for part in one["loc"] if isinstance(part, str | int))
                self.wrong(place, *_explained(str(one["type"]), str(one["msg"]), place, self._keys(place)))
        # What can still be checked is: a wrong key in one entry must not hide a wrong reference in another.
        return self._without_broken()

    def _keys(self, place: Place) -> list[str]:
        """The keys that could stand where an unknown one does."""
        model: type[BaseModel] = schemas.PlantFile
        for word in place[:-1]:
            model = SECTIONS.get(str(word), model)
        return list(model.model_fields)

    def _without_broken(self) -> schemas.PlantFile:
        """The document without what does not validate: the smallest part that can be left out is."""
        data = copy.deepcopy(self.document.data)
        data["version"] = 1
        for _ in range(MAX_ROUNDS):
            try:
                return schemas.PlantFile.model_validate(data)
            except ValidationError as error:
                for one in reversed(error.errors(include_input=False, include_url=False)):
                    place = one["loc"][:-1] if one["type"] == "missing" else one["loc"]
                    self._incomplete.add(self.document.known(place)[:-1])
                    _leave_out(data, place)
        return schemas.PlantFile(version=1)

    def unique(
        self, section: str, entries: Sequence[Entry], name: Callable[[Entry], str]
    ) -> Iterable[tuple[int, Entry]]:
        """Entries with the index they have in the document; a name that stands twice is a mistake."""
        written = self.document.data.get(section) or []
        places = {
            entry.get("name"): index for index, entry in reversed(list(enumerate(written))) if isinstance(entry, dict)
        }
        seen: set[str] = set()
        for entry in entries:
            if name(entry) in seen:
                self.wrong(
                    (section, places.get(name(entry), 0)), f"the name {name(entry)!r} is taken", "names are unique"
                )
                continue
            seen.add(name(entry))
            yield places.get(name(entry), 0), entry

    def options(
        self, place: Place, connector: str, options: dict[str, Any], which: str
    ) -> tuple[dict[str, Any], frozenset[str]] | None:
        """Options checked by the connector's own model; None when something is wrong with the connector itself."""
        if connector not in connectors.names():
            self.wrong(
                (*place, "connector"), f"there is no connector {connector!r}", nearest(connector, connectors.names())
            )
            return None
        try:
            model = getattr(connectors.load(connector), which, None)
        except connectors.NotInstalledError as error:
            self.wrong((*place, "connector"), str(error))
            return None
        if model is None:
            self.wrong((*place, "connector"), f"the connector {connector!r} cannot publish", "use mqtt or opcua")
            return None
        found = validated(model, options, self.base, self.sent)
        for where, message, hint in found.problems:
            self.wrong((*place, "options", *where), message, hint)
        return found.values, found.secrets

    def _connections(self, entries: Sequence[schemas.ConnectionEntry]) -> dict[str, WantedConnection]:
        found = {}
        for index, entry in self.unique("connections", entries, lambda e: e.name):
            options = self.options(("connections", index), entry.connector, entry.options, "Options")
            values, secrets = options if options is not None else ({}, frozenset())
            unknown(self, ("connections", index, "history"), entry.history)
            kept = entry.history or ""
            found[entry.name] = WantedConnection(entry.name, entry.connector, values, secrets, kept, entry.priority)
        return found

    def _northbound(self, entries: Sequence[schemas.NorthboundEntry]) -> dict[str, WantedSubscription]:
        found = {}
        for index, entry in self.unique("northbound", entries, lambda e: e.name):
            if any(c in entry.topic for c in "+#") or entry.topic.startswith(("/", "$")):
                self.wrong(
                    ("northbound", index, "topic"),
                    f"{entry.topic!r} is no topic to publish to",
                    "no +, #, leading / or $",
                )
            options = self.options(("northbound", index), entry.connector, entry.options, "SinkOptions")
            if options is not None:
                found[entry.name] = WantedSubscription(entry, *options)
        return found

    def _models(self, entries: Sequence[schemas.ModelEntry]) -> dict[str, WantedModel]:
        found = {}
        for index, entry in self.unique("models", entries, lambda e: e.name):
            place = ("models", index)
            if (entry.path is None) == (entry.digest is None):
                self.wrong(place, "a model needs either path or digest")
                continue
            try:
                if entry.path is not None and self.sent is not None:
                    self.wrong(
                        (*place, "path"), "a file sent over the API cannot name files", "name the model by its digest"
                    )
                elif entry.path is not None:
                    source = (self.base / entry.path).resolve()
                    found[entry.name] = WantedModel(entry.name, source, imported(source, self.store))
                else:
                    found[entry.name] = WantedModel(entry.name, None, _known(self.store, entry.digest or ""))
            except (InferenceError, OSError) as error:
                self.wrong((*place, "path" if entry.path is not None else "digest"), str(error))
        return found


def imported(source: Path, store: Path) -> Model:
    """A model of a package, admitted by its signature. Raises InferenceError, OSError."""
    model, content = import_model(source, store), signature.given(source)
    _admit(model, signature.kept(model) if content is None else content)
    if content is not None:
        signature.keep(model, content)
    return model


def _known(store: Path, digest: str) -> Model:
    """A model of the store, admitted by the signature that it came with. Raises InferenceError, OSError."""
    model = load_model(store, digest)
    _admit(model, signature.kept(model))
    return model


def _admit(model: Model, content: bytes | None) -> None:
    chosen = settings.settings()
    signature.admit(model, content, trusted=chosen.trusted_signers, required=chosen.require_signature)


def _leave_out(data: Any, place: Sequence[str | int]) -> None:  # noqa: ANN401 - any YAML value
    """Remove the deepest part of a place that is in the data; parts that only name a choice are passed over."""
    parent, last = None, None
    for part in place:
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            parent, last, data = data, part, data[part]
    if isinstance(parent, dict) and isinstance(last, str):
        del parent[last]
    elif isinstance(parent, list) and isinstance(last, int):
        parent.pop(last)


def _explained(kind: str, message: str, place: Place, keys: list[str]) -> tuple[str, str]:
    if kind == "extra_forbidden":
        return f"unknown key {place[-1]!r}", nearest(str(place[-1]), keys)
    if kind == "missing":
        return f"{place[-1]!r} is missing", ""
    return message, ""


def check_document(document: Document, store: Path) -> Desired:
    """What a document asks for; models are imported into `store`. DocumentError says everything wrong at once."""
    return Checker(document, store).run()


def check_file(path: Path, store: Path) -> Desired:
    """`check_document` of a file."""
    return check_document(read(path), store)


def check_text(text: str, file: str, store: Path, sent: Mapping[str, str] | None = None) -> Desired:
    """`check_document` of text; paths in it are relative to where `file` would be. See `Checker` for `sent`."""
    return Checker(parse(text, file), store, sent).run()
