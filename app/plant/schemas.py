"""plant.yaml, version 1: what a person writes about a plant. Its JSON Schema is made from these classes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

NAME: Final = r"^[^\s/#+][^/#+\x00-\x1f]{0,99}$"
_LEVEL: Final = r"^([^\s/#+][^/#+\x00-\x1f]{0,99})?$"
_PATH: Final = r"^([^\s/#+$][^#+\x00-\x1f]*[^/#+\x00-\x1f]|[^\s/#+$])?$"
_RANGE: Final = re.compile(r"^(.*)\[(\d{1,6})-(\d{1,6})\](.*)$")
MAX_TAGS: Final = 200_000

Name = Annotated[str, Field(pattern=NAME, description="No `/`, `#` or `+`, at most 100 characters.")]
Level = Annotated[str, Field(pattern=_LEVEL, description="No `/`, `#` or `+`, at most 100 characters.")]
Levels = Annotated[str, Field(pattern=_PATH, max_length=200, description="`/` between levels; no `#` or `+`.")]
Priority = Literal["low", "normal", "high"]
Datatype = Literal["float", "integer", "boolean", "string", "array", "any"]


class Entry(BaseModel):
    """Unknown keys are refused, and so are numbers that JSON does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PlantPath(Entry):
    """Where this plant stands (ISA-95 levels): begins every topic and place."""

    enterprise: Level = ""
    site: Level = ""
    area: Level = ""
    line: Level = ""

    def path(self) -> str:
        """The levels that are given, `/` between them."""
        return "/".join(level for level in (self.enterprise, self.site, self.area, self.line) if level)


class ThinStep(Entry):
    """What is older becomes points: mean, least, greatest, count and worst status of each interval."""

    after_days: float = Field(ge=1, le=36_500, description="Older than this, by the time of the readings.")
    every_s: int = Field(
        ge=1, le=86_400, description="Seconds of an interval; a whole multiple of that of the step before."
    )


class HistoryClass(Entry):
    """How the readings of some tags are kept."""

    name: Name
    keep_days: float | None = Field(default=None, gt=0, le=36_500, description="For ever, if it is left out.")
    priority: int = Field(
        default=3, ge=1, le=4, description="1 is the highest. What has a greater number leaves a full disk first."
    )
    thin: list[ThinStep] = Field(default_factory=list, max_length=8, description="From the youngest to the oldest.")


class HistoryEntry(Entry):
    """How the past is kept. What has no class is kept as the settings of the box say."""

    default: str | None = Field(default=None, description="The class of tags that name none, nor their connection.")
    classes: list[HistoryClass] = Field(default_factory=list)


class ConnectionEntry(Entry):
    """One peer in the field: an OPC UA server, an MQTT broker."""

    name: Name
    connector: str = Field(description="Which connector: opcua, mqtt, …")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="What this connector is configured with. Secrets as {env: NAME} or {file: PATH}.",
    )
    history: str | None = Field(default=None, description="Class of its tags, one of `history: classes`.")
    priority: Priority = Field(
        default="normal",
        description="Whose readings go first where a full journal drops by priority: low before normal before high.",
    )


class TagEntry(Entry):
    """One named point."""

    name: Name
    connection: str
    address: str = Field(description="The peer's own address: a NodeId; a topic and a JSON pointer.")
    datatype: Datatype = "float"
    unit: str = Field(default="", max_length=40)
    place: Levels = Field(default="", description="Path in the plant's hierarchy, `/` between levels.")
    description: str = ""
    options: dict[str, Any] = Field(default_factory=dict, description="What this connector knows of a tag.")
    history: str = Field(default="", description="Its class, one of `history: classes`; its connection's by default.")


class TagGroup(Entry):
    """Many alike points in a few lines."""

    names: list[str] = Field(
        min_length=1,
        description="Names; `XMEAS_[01-22]` stands for 22 of them.",
    )
    connection: str
    address: str = Field(description="With `{name}` where the name belongs.")
    datatype: Datatype = "float"
    unit: str = Field(default="", max_length=40)
    place: Levels = ""
    description: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    history: str = ""


def _which(value: object) -> str:
    return "group" if isinstance(value, dict) and "names" in value else "tag"


AnyTag = Annotated[Annotated[TagEntry, Tag("tag")] | Annotated[TagGroup, Tag("group")], Discriminator(_which)]


class ModelEntry(Entry):
    """A model package (folder or zip) or a bare .onnx file, or one that was imported before."""

    name: Name
    path: str | None = Field(default=None, description="Relative to this file.")
    digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$", description="Of an imported model.")


class WindowEntry(Entry):
    """How readings become one tensor. What is left out is taken from the model package."""

    kind: Literal["grid", "trigger", "between", "message"] | None = None
    step_s: float | None = Field(default=None, gt=0, description="Seconds between rows.")
    length: int | None = Field(default=None, ge=1, le=100_000, description="Rows.")
    hop: int | None = Field(default=None, ge=1, description="Rows from one window to the next.")
    lateness_s: float = Field(default=0.5, ge=0, description="How long late readings are waited for.")
    trigger: str | None = Field(default=None, description="Tag whose change ends a window: a part counter.")
    start: str | None = Field(default=None, description="between: tag that becomes active when a cycle starts.")
    stop: str | None = Field(default=None, description="between: tag that does when it stops; start's end by default.")
    shape: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None, min_length=1, max_length=3, description="message: of its array or image, channels last."
    )
    max_length_s: float = Field(default=60.0, gt=0, description="trigger, between: a longer cycle is refused.")


class Quality(Entry):
    """What an input may be made of. Anything else refuses the window, with a reason."""

    resample: Literal["last", "linear", "mean", "min", "max"] | None = None
    policy: Literal["good", "uncertain", "hold", "interpolate"] | None = Field(
        default=None,
        description="good: only Good. uncertain: Uncertain too. hold, interpolate: bridge what is Bad.",
    )
    hold_s: float | None = Field(default=None, ge=0, description="hold, interpolate: for at most this long.")
    max_gap_s: float | None = Field(default=None, gt=0, description="Longest silence of a connection.")
    use_received_time: bool | None = Field(default=None, description="When the origin gives no usable time.")


class Override(Quality):
    """Another quality for some of the inputs."""

    tags: list[str] = Field(min_length=1, description="Names; `[01-22]` ranges are allowed.")


Constant = float | list[float] | list[list[float]] | list[list[list[float]]]


class InputsEntry(Quality):
    """The columns of the model's window."""

    input: str | None = Field(default=None, description="The model's input; may be left out when it has one.")
    layout: Literal["NTC", "NCT", "NC", "NHWC", "NCHW"] | None = Field(
        default=None, description="N windows, T rows, C columns; of images H rows, W columns, C channels."
    )
    tags: list[str] = Field(default_factory=list, description="In the model's column order; the package's by default.")
    overrides: list[Override] = Field(default_factory=list)
    constants: dict[str, Constant] = Field(
        default_factory=dict, description="The model's other inputs: a number, or lists of them in its shape."
    )
    state: dict[str, str] = Field(
        default_factory=dict, description="Input to output: what the model carries from window to window."
    )


class OutputEntry(Entry):
    """One output of the model to publish."""

    name: str
    unit: str = ""
    description: str = ""


class RuleEntry(Entry):
    """Raises an event when an output goes beyond a limit."""

    name: Name
    output: str
    above: float | None = None
    below: float | None = None
    clear: float | None = Field(default=None, description="Clears at this value; the limit itself by default.")
    on_delay: int = Field(default=1, ge=1, le=10_000, description="Predictions in a row before it is raised.")
    off_delay: int = Field(default=1, ge=1, le=10_000, description="Predictions in a row before it clears.")
    priority: int = Field(default=3, ge=1, le=4, description="1 is the highest.")
    message: dict[str, str] = Field(
        default_factory=dict, description="Language to text: en, zh-CN. {output} is filled in."
    )


class PipelineEntry(Entry):
    """tags → window → model → outputs → rules."""

    name: Name
    model: str
    devices: list[str] = Field(default=["cpu"], min_length=1, description="The first that takes the model runs it.")
    asset: Levels = Field(default="", description="Path of the asset: part of topics and node paths.")
    window: WindowEntry = WindowEntry()
    inputs: InputsEntry = InputsEntry()
    outputs: list[str | OutputEntry] = Field(default_factory=list, description="All of the model's by default.")
    context: dict[str, str] = Field(default_factory=dict, description="Field to tag; unit_id names the part.")
    rules: list[RuleEntry] = Field(default_factory=list)
    catch_up: Literal["in_order", "newest_first"] = Field(
        default="in_order",
        description="newest_first: after an outage the newest windows are answered first, those behind come late.",
    )
    max_age_s: float = Field(default=30.0, gt=0, description="A published output older than this turns Bad.")


class NorthboundEntry(Entry):
    """A consumer of predictions and events."""

    name: Name
    connector: str = Field(description="mqtt or opcua.")
    topic: str = Field(default="headrace", max_length=300, description="Prefix of every topic.")
    options: dict[str, Any] = Field(default_factory=dict)


class PlantFile(Entry):
    """One plant."""

    version: Literal[1]
    plant: PlantPath = PlantPath()
    connections: list[ConnectionEntry] = Field(default_factory=list)
    tags: list[AnyTag] = Field(default_factory=list)
    tags_file: str | None = Field(
        default=None,
        description="CSV: name, connection, address, datatype, unit, place, description, options, history.",
    )
    history: HistoryEntry = HistoryEntry()
    models: list[ModelEntry] = Field(default_factory=list)
    pipelines: list[PipelineEntry] = Field(default_factory=list)
    northbound: list[NorthboundEntry] = Field(default_factory=list)


def spread(name: str) -> list[str]:
    """`XMEAS_[01-22]` as 22 names; a name without a range as itself. ValueError when the range runs backwards."""
    found = _RANGE.match(name)
    if found is None:
        return [name]
    before, first, last, after = found.groups()
    if int(first) > int(last) or int(last) - int(first) >= MAX_TAGS:
        message = f"the range in {name!r} runs backwards or is too long"
        raise ValueError(message)
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]
