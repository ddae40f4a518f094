"""What an OPC UA connection, tag and northbound server are configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from connectors.opcua.address import check

Policy = Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "None"]
Mode = Literal["SignAndEncrypt", "Sign"]


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "opc.tcp" or not parts.hostname or parts.port is None:
        message = "an OPC UA address looks like opc.tcp://host:4840/path, with its port"
        raise ValueError(message)
    if parts.username or parts.password:
        message = "user and password go into `username` and `password`, not into the URL"
        raise ValueError(message)
    return url


def _place(text: str) -> str:
    wrong = check(text)
    if wrong is not None:
        raise ValueError(wrong)
    return text


EndpointUrl = Annotated[str, AfterValidator(_endpoint)]
Place = Annotated[str, AfterValidator(_place)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Credentials(_Strict):
    """How to reach a server and to prove who we are; never more lenient than written."""

    url: EndpointUrl
    """`opc.tcp://host:port/path`, without credentials."""
    security: Policy = "Basic256Sha256"
    """Security policy. `None` sends everything in the clear and must be asked for."""
    mode: Mode = "SignAndEncrypt"
    """Message security mode; without meaning when the policy is `None`."""
    username: str | None = None
    password: SecretStr | None = None
    user_certificate_file: Path | None = None
    """A user's X.509 certificate, DER or PEM, to log in with instead of a user name."""
    user_key_file: Path | None = None
    """Its RSA key, PEM, not encrypted: readable for the gateway alone."""
    trusted_certificates: tuple[Path, ...] = ()
    """Server certificates, or their CA's, as DER or PEM: files or folders. What `headrace trust` accepts counts too."""
    application_uri: str | None = None
    """Ours; `urn:<host>:headrace:<connection>` by default. It stands in our certificate: change it, then switch."""
    timeout_s: float = Field(default=5.0, gt=0, le=120)
    """For connecting and for each request; also the least time without a publish response that counts as an outage."""
    requests_per_s: float = Field(default=50.0, ge=1, le=10_000)
    """What we ask of the server at most, publishing not counted: browse, reads, changes of what is monitored."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.username is None) != (self.password is None):
            message = "`username` and `password` go together"
            raise ValueError(message)
        if (self.user_certificate_file is None) != (self.user_key_file is None):
            message = "`user_certificate_file` and `user_key_file` go together"
            raise ValueError(message)
        if self.username is not None and self.user_certificate_file is not None:
            message = "log in with a user name or with a user certificate, not with both"
            raise ValueError(message)
        return self


class EventOptions(_Strict):
    """Which events of the server become ours; `events: {}` takes all that the Server object tells (IEC 62541-9)."""

    notifiers: tuple[Place, ...] = Field(default=("i=2253",), min_length=1, max_length=100)
    """Nodes that tell of events, by NodeId or browse path; the Server object (`i=2253`) tells of all."""
    severity: int = Field(default=1, ge=1, le=1000)
    """Events less severe than this are not asked for; 1 to 1000 (IEC 62541-5, 6.4.2)."""
    types: tuple[Place, ...] = Field(default=(), max_length=100)
    """Event types, by NodeId or browse path, subtypes included; all if empty."""
    queue_size: int = Field(default=1000, ge=1, le=100_000)
    """Events the server keeps per notifier between two publishes; what runs over is told as `events_lost`."""


class Options(Credentials):
    """An OPC UA connection."""

    more_urls: tuple[EndpointUrl, ...] = Field(default=(), max_length=8)
    """Other servers with the same nodes, tried in this order when `url` does not let us in; the same security holds."""
    publishing_interval_ms: float = Field(default=100.0, ge=10, le=60_000)
    sampling_interval_ms: float = Field(default=0.0, ge=0, le=3_600_000)
    """0 asks for the server's fastest: other values may be revised upwards and cost the server more."""
    queue_size: int = Field(default=100, ge=1, le=100_000)
    """Values a server keeps per tag between two publishes."""
    publishes_in_flight: int = Field(default=4, ge=1, le=32)
    """PublishRequests that wait at the server at any time."""
    retry_bad_s: float = Field(default=30.0, ge=1, le=3600)
    """How often a node that is not there, or has vanished, is looked for again; all others go on meanwhile."""
    check_silent_s: float = Field(default=60.0, ge=1, le=3600)
    """A tag of which the server has told nothing for so long is read once: whether its node is there, and unchanged."""
    resume: bool = True
    """Leave the session at the server when we go: for up to a minute it keeps what changes until we are back."""
    polling: bool = False
    """Read all values every publishing interval instead of subscribing; done anyway where nothing else works."""
    events: EventOptions | None = None
    """Take the server's events and alarms too; off by default. They are never acknowledged by us."""
    use_received_time: bool = False
    """Stamp every reading with our time of receipt: for a server whose clock is wrong or absent."""
    backfill: bool = True
    """After an outage read what was missed from the server's history, where it keeps one (IEC 62541-11)."""
    backfill_hours: float = Field(default=24.0, gt=0, le=8760)
    """What was missed longer ago is not asked for."""
    backfill_readings_per_s: int = Field(default=10_000, ge=10, le=1_000_000)
    """On average no more readings are asked of the server's history."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({self.url, *self.more_urls}) <= len(self.more_urls):
            message = "`more_urls` names other servers than `url`, each once"
            raise ValueError(message)
        return self


class TagOptions(_Strict):
    """What a tag may ask for beyond its connection."""

    sampling_interval_ms: float | None = Field(default=None, ge=0, le=3_600_000)
    queue_size: int | None = Field(default=None, ge=1, le=100_000)
    trigger: Literal["status_value", "status_value_timestamp"] = "status_value"
    """What counts as a change (IEC 62541-4, 7.22.2): the latter also reports the same value with a new source time."""
    deadband: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """A number is reported when it has moved by more than this, in its own unit; a new status always is."""
    deadband_percent: float | None = Field(default=None, gt=0, le=100)
    """The same in percent of the tag's EURange, for servers that know one (IEC 62541-8, 5.3.2)."""

    @model_validator(mode="after")
    def _one_deadband(self) -> Self:
        if self.deadband is not None and self.deadband_percent is not None:
            message = "give either `deadband` or `deadband_percent`"
            raise ValueError(message)
        return self


class SinkOptions(_Strict):
    """Our own OPC UA server, which shows predictions, events and health as read-only nodes."""

    endpoint: EndpointUrl = "opc.tcp://127.0.0.1:4841/headrace"
    security: tuple[Policy, ...] = ("Basic256Sha256",)
    """Policies offered; `None` must be asked for."""
    anonymous: bool = False
    """Whether anyone may read; otherwise `username` and `password` are needed."""
    username: str | None = None
    password: SecretStr | None = None
    trusted_certificates: tuple[Path, ...] = ()
    """Client certificates, or those of their CA: files or folders. What `headrace trust` accepts counts too."""
    application_uri: str | None = None
    namespace: str = "urn:headrace:north"

    @model_validator(mode="after")
    def _someone_may_read(self) -> Self:
        if not self.security:
            message = "`security` names at least one policy"
            raise ValueError(message)
        if not self.anonymous and (self.username is None or self.password is None):
            message = "set `username` and `password`, or `anonymous: true`"
            raise ValueError(message)
        return self
