"""What a Modbus connection and its tags are configured with."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.modbus.address import MOST_BITS, MOST_REGISTERS


def _server(url: str) -> str:
    parts = urlsplit(url)
    # `port` is parsed when it is asked for, and raises ValueError.
    if parts.scheme != "modbus" or not parts.hostname or parts.port == 0:
        message = "a Modbus TCP server's address looks like modbus://host:502"
        raise ValueError(message)
    if parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
        message = "only host and port belong into modbus://host:502; the unit has an option of its own"
        raise ValueError(message)
    return url


def _useful(scale: float) -> float:
    if scale == 0:
        message = "a scale of 0 leaves nothing of the value"
        raise ValueError(message)
    return scale


Unit = Annotated[int, Field(ge=0, le=255)]
Period = Annotated[float, Field(ge=0.01, le=86_400)]
Order = Literal["big", "little"]
Factor = Annotated[int | float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
Group = Annotated[str, Field(min_length=1, max_length=64)]


class Options(BaseModel):
    """A Modbus TCP connection. The protocol knows neither log-in nor encryption: keep it inside the plant's network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_server)]
    """`modbus://host:502`."""
    unit: Unit = 1
    """The unit id of tags that name none."""
    poll_s: Period = 1.0
    """The beat of tags without a group."""
    groups: dict[Group, Period] = Field(default_factory=dict, max_length=32)
    """Group of tags -> its own beat in seconds."""
    timeout_s: float = Field(default=3.0, gt=0, le=120)
    """For connecting, and for each answer."""
    refresh_s: float | None = Field(default=None, ge=0, le=86_400)
    """How often what has not changed is reported too; 0 at every poll; by default only after connecting."""
    max_gap: int = Field(default=16, ge=0, le=MOST_BITS)
    """Addresses nobody asked for that are read along, so that one request serves two neighbours."""
    max_registers: int = Field(default=MOST_REGISTERS, ge=4, le=MOST_REGISTERS)
    max_bits: int = Field(default=MOST_BITS, ge=1, le=MOST_BITS)
    """Of one request, for devices that take less than the protocol allows."""
    retry_bad_s: float = Field(default=60.0, ge=0.01, le=86_400)
    """How often an address that is not there, or a unit that is silent, is asked again."""
    word_order: Order = "big"
    """Which register of a wide number comes first: that of its high or that of its low end."""
    byte_order: Order = "big"
    """Within a register; the protocol says big."""


class TagOptions(BaseModel):
    """What a tag is beyond table, number and type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Unit | None = None
    group: Group | None = None
    word_order: Order | None = None
    byte_order: Order | None = None
    scale: Annotated[Factor, AfterValidator(_useful)] = 1
    offset: Factor = 0
    """The value is raw · scale + offset; of an integer computed exactly and rounded at most once."""
    encoding: Literal["utf-8", "gb18030", "latin-1"] = "utf-8"
