"""What a Sparkplug connection and its tags are configured with."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field, field_validator

from connectors.mqtt.layouts import Strict
from connectors.mqtt.options import Broker
from connectors.sparkplug.address import NAMESPACE, STATE, check_id

SPARKPLUG: Final = "sparkplug"


def _id(text: str) -> str:
    problem = check_id(text)
    if problem:
        raise ValueError(problem)
    return text


def _group(text: str) -> str:
    if text == STATE:
        message = f"{STATE} is no group"
        raise ValueError(message)
    return _id(text)


def broker_url(url: object) -> object:
    """`sparkplug://` is `mqtt://`, and `sparkplugs://` is `mqtts://`: the name says what is spoken over it."""
    return f"mqtt{url[len(SPARKPLUG) :]}" if isinstance(url, str) and url.startswith(SPARKPLUG) else url


class Access(Broker):
    """How to reach the broker that the edge nodes use."""

    @field_validator("url", mode="before")
    @classmethod
    def _of_a_broker(cls, url: object) -> object:
        return broker_url(url)


class Options(Access):
    """A Sparkplug host application; `url` is `sparkplug://host:1883`, or `sparkplugs://host:8883` with TLS."""

    host_id: Annotated[str, AfterValidator(_id)] | None = Field(default=None, max_length=128)
    """Under which edge nodes see whether we are there; the client id by default. No two hosts share one."""
    groups: tuple[Annotated[str, AfterValidator(_group)], ...] = ()
    """Listen to these groups only; to all by default."""
    rebirth: bool = True
    """Ask a node for its births when they are needed. It is the only thing we ever send to one."""
    rebirth_pause_s: float = Field(default=30.0, ge=1, le=3600)
    """A node is not asked more often; each time that it does not answer doubles it, up to 32 times."""
    reorder_timeout_s: float = Field(default=2.0, ge=0, le=60)
    """How long a message that is missing by its sequence number is waited for."""
    birth_wait_s: float = Field(default=10.0, gt=0, le=600)
    """Tags whose node or device has sent nothing for this long after we connected are Bad."""
    max_payload_bytes: int = Field(default=1_048_576, ge=1, le=268_435_455)
    max_metrics: int = Field(default=50_000, ge=1, le=1_000_000)
    """Of one message."""
    max_waiting: int = Field(default=10_000, ge=1, le=65_535)
    """Messages held in memory; beyond it the socket is not read, and MQTT 5 brokers are told so (receive maximum)."""
    use_received_time: bool = False
    """Stamp every reading with our time of receipt: for nodes whose clock is wrong."""

    def filters(self) -> list[str]:
        """What to subscribe to."""
        return [f"{NAMESPACE}/{group}/#" for group in self.groups] or [f"{NAMESPACE}/#"]


class TagOptions(Strict):
    """A tag of Sparkplug has no options: its births say what it is."""
