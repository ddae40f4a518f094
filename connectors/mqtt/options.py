"""What an MQTT connection, tag and northbound publisher are configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from connectors.mqtt import layouts
from connectors.mqtt.address import check_pointer
from connectors.mqtt.layouts import Strict
from connectors.mqtt.times import SCALE_NS, check_format, zone_of


def _broker(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts", "ws", "wss") or not parts.hostname:
        message = "a broker's address looks like mqtt://host:1883, mqtts://host:8883 or wss://host:443/mqtt"
        raise ValueError(message)
    if any(one.isspace() or not one.isprintable() for one in url):
        message = "a broker's address has no spaces in it"
        raise ValueError(message)
    if parts.username or parts.password:
        message = "user and password go into `username` and `password`, not into the URL"
        raise ValueError(message)
    return url


def _pointer(text: str) -> str:
    problem = check_pointer(text.removeprefix("^"))
    if problem:
        raise ValueError(problem)
    return text


def _time_format(text: str) -> str:
    problem = check_format(text)
    if problem:
        raise ValueError(problem)
    return text


def _zone(name: str) -> str:
    zone_of(name)
    return name


BrokerUrl = Annotated[str, AfterValidator(_broker)]
Pointer = Annotated[str, AfterValidator(_pointer)]
TimeFormat = Annotated[str, AfterValidator(_time_format)]
Zone = Annotated[str, AfterValidator(_zone)]
Charset = Literal["utf-8", "gbk", "gb18030", "big5", "shift_jis", "utf-16", "latin-1"]
OWN: Final = frozenset({"format", "layout", "compression", "max_unpacked_bytes", "value_map", "optional"})
"""Options of a tag that mean something to every layout."""
OF_TAG: Final = frozenset({"value_map", "optional", "layout"})
"""Options that do not change how a message is read, only what a tag takes of it."""


class Broker(Strict):
    """How to reach a broker and to prove who we are."""

    url: BrokerUrl
    """`mqtt://host:1883`, or `mqtts://host:8883` with TLS; `ws://host/mqtt` and `wss://host/mqtt` over WebSocket."""
    version: Literal["3.1.1", "5"] = "3.1.1"
    client_id: str | None = Field(default=None, min_length=1, max_length=128)
    """Stable, since the broker keeps our session under it; from the connection's name by default."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """Whom to trust with `mqtts` and `wss`; the system's authorities by default. The host name is always checked."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = Field(default=15, ge=5, le=3600)
    """After 1.5 times this silence the broker may drop us; we ping every second anyway."""
    timeout_s: float = Field(default=5.0, gt=0, le=120)
    """For connecting, for each answer, and for a ping."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.password is not None and self.username is None:
            message = "`password` needs `username`"
            raise ValueError(message)
        if (self.certificate_file is None) != (self.key_file is None):
            message = "`certificate_file` and `key_file` go together"
            raise ValueError(message)
        if not self.url.startswith(("mqtts:", "wss:")) and (self.ca_file or self.certificate_file):
            message = "certificates need an mqtts:// or wss:// address"
            raise ValueError(message)
        return self


def _filter(text: str) -> str:
    """A topic filter (MQTT 5, 4.7), or a shared one (4.8.2)."""
    shared, _, rest = text.partition("/")
    if shared == "$share":
        group, _, text = rest.partition("/")
        if not group or any(one in group for one in "+#") or not text:
            message = "a shared subscription looks like $share/group/topic/#: gateways of one group share the load"
            raise ValueError(message)
    levels = text.split("/")
    if any(len(one) > 1 and ("#" in one or "+" in one) for one in levels) or "#" in levels[:-1]:
        message = "in a topic filter `+` and `#` stand for whole levels, and `#` comes last"
        raise ValueError(message)
    return text if shared != "$share" else f"$share/{group}/{text}"


class TopicFilter(Strict):
    """A subscription beyond the tags' own topics."""

    filter: Annotated[str, Field(min_length=1, max_length=65_535), AfterValidator(_filter)]
    """With `+` and `#`; `$share/group/filter` shares its messages among the gateways of one group."""
    qos: Literal[0, 1, 2] = 1


class Presence(Strict):
    """What the broker and everybody on it is told of this gateway's connection: retained, at QoS 1."""

    topic: str = Field(min_length=1, max_length=65_535, pattern=r"^[^+#\x00]+$")
    online: str = Field(default="online", max_length=1000)
    """Said when the connection stands."""
    offline: str = Field(default="offline", max_length=1000)
    """Said when we go, and by the broker (as our will) when we are lost."""


class Options(Broker):
    """An MQTT connection."""

    clean_session: bool = False
    """True forgets what was published while we were away."""
    session_expiry_s: int = Field(default=86_400, ge=0, le=4_294_967_295)
    """MQTT 5: how long the broker keeps our session; 3.1.1 leaves that to the broker."""
    qos: Literal[0, 1, 2] = 1
    """Of the subscriptions to the tags' topics. 0 loses what is under way when a connection breaks; 2 is subscribed
    as 1: what comes twice is told apart anyway."""
    subscriptions: tuple[TopicFilter, ...] = ()
    """Filters to subscribe to instead of the tags' topics; what they bring without a tag is counted as refused."""
    max_payload_bytes: int = Field(default=1_048_576, ge=1, le=268_435_455)
    max_waiting: int = Field(default=10_000, ge=1, le=65_535)
    """Messages held in memory; beyond it the socket is not read, and MQTT 5 brokers are told so (receive maximum)."""
    will: Presence | None = None
    """Whether and where others learn that this connection stands."""
    use_received_time: bool = False
    """Stamp every reading with our time of receipt: for publishers whose clock is wrong or absent."""


class TagOptions(Strict):
    """How a payload is laid out, where in it a tag's time and quality are, and how many samples it carries."""

    time: Pointer | None = None
    time_format: TimeFormat | None = None
    """`iso`, `s`, `ms`, `us`, `ns`, or a pattern such as `%Y/%m/%d %H:%M:%S`."""
    time_zone: Zone | None = None
    """Of texts that name none, e.g. Asia/Shanghai; without it they are refused."""
    quality: Pointer | None = None
    """Points to "Good", "Uncertain" or "Bad" in any case, to a StatusCode as a number, or to what `quality_map` has."""
    quality_map: dict[str, Annotated[int, Field(ge=0, le=0xFFFFFFFF)]] = Field(default_factory=dict)
    """What the payload says (as text) -> StatusCode."""
    each: Pointer | None = None
    """Points to an array of records; address, `time`, `quality` then start at a record, with `^` at the message."""
    format: str = "json"
    """What the payload is: one of `layouts.names()`."""
    layout: dict[str, object] = Field(default_factory=dict)
    """What only this format knows: the `Options` of its file."""
    charset: Charset = "utf-8"
    compression: Literal["gzip"] | None = None
    max_unpacked_bytes: int = Field(default=16_777_216, ge=1, le=268_435_455)
    """What a compressed payload may become; a larger one is refused."""
    value_map: dict[str, StrictBool | StrictInt | StrictFloat | StrictStr] = Field(default_factory=dict)
    """What the payload says (as text) -> the value, e.g. `{"ON": true, "OFF": false}`."""
    decimal_comma: bool = False
    """Numbers written as text look like `23,5`."""
    optional: bool | None = None
    """A message without the tag is no loss. By default so for formats whose messages hold some of the tags only."""

    @field_validator("each")
    @classmethod
    def _each_is_absolute(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("^"):
            message = "`each` is relative to the message already: no `^`"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        layout = layouts.load(self.format)
        meaningless = sorted(self.model_fields_set - layout.TAKES - OWN)
        if meaningless:
            message = f"a {self.format} payload takes no `{'`, `'.join(meaningless)}`"
            raise ValueError(message)
        if "time" in layout.TAKES and (self.time is None) != (self.time_format is None):
            message = "`time` and `time_format` go together"
            raise ValueError(message)
        if self.time_zone is not None and (self.time_format is None or self.time_format in SCALE_NS):
            message = "`time_zone` is for times written as text"
            raise ValueError(message)
        layout.reader(self, self.of_layout())
        return self

    def of_layout(self) -> BaseModel:
        """The `layout` options, of the format's own class. Raises ValueError that names the wrong key."""
        try:
            return layouts.load(self.format).Options.model_validate(self.layout)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            message = f"`layout`, {where}: {first['msg']}"
            raise ValueError(message) from error

    def reading_key(self) -> str:
        """The same for tags that one reading of a message serves."""
        own = self.of_layout().model_dump_json(exclude=set(layouts.load(self.format).OF_TAG))
        return self.model_dump_json(exclude=set(OF_TAG)) + own


class SinkOptions(Broker):
    """A northbound publisher; everything goes out at QoS 1."""

    retain: bool = False
    """Retain everything; otherwise each publication says so itself."""
    in_flight: int = Field(default=100, ge=1, le=65_535)
    """Publications under way before the broker has taken the first."""
