"""Rows of events: what rules raised, what plants reported, in the states of ISA-18.2; the memory each rule keeps."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class EventRow(Base):
    """One alarm of a rule, from its rising to its clearing and acknowledgement; or one event of a plant, as it was."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """UUID derived from (rule, prediction that raised it), or from (connection, the plant's own id of the event)."""
    source: Mapped[str] = mapped_column(String(10), default="rule", server_default="rule")
    """`rule`, `plant` or `box`."""
    connection_id: Mapped[int | None] = mapped_column(Big)
    """Of an event of a plant or of the box; then what is only of rules is NULL."""
    condition_key: Mapped[str | None] = mapped_column(String(36), index=True)
    """UUID of the plant's condition and branch: of the events that share it the newest tells the present state."""
    pipeline_id: Mapped[int | None] = mapped_column(Big, index=True)
    version_id: Mapped[int | None] = mapped_column(Big)
    rule: Mapped[str] = mapped_column(String(100))
    """Of an event of a plant: the name of its condition, else of its source."""
    prediction_id: Mapped[str | None] = mapped_column(String(36))
    """The prediction that raised it."""
    cleared_by: Mapped[str | None] = mapped_column(String(36))
    """The prediction that cleared it."""
    state: Mapped[str] = mapped_column(String(20))
    """`unack_active`, `ack_active`, `rtn_unack`, `normal` (ISA-18.2); `occurred` for what has no state."""
    priority: Mapped[int] = mapped_column(Integer)
    """1 is the most urgent; of an event of a plant, from its severity."""
    message: Mapped[Any] = mapped_column(Json)
    """Language tag → text, `en` and `zh-CN`."""
    value: Mapped[Any] = mapped_column(Json, nullable=True)
    """What the rule judged."""
    limit: Mapped[str] = mapped_column(String(100))
    unit_id: Mapped[str | None] = mapped_column(String(100))
    context: Mapped[Any] = mapped_column(Json)
    raised_at: Mapped[int] = mapped_column(Big, index=True)
    """ns: end time of the window that raised it."""
    cleared_at: Mapped[int | None] = mapped_column(Big)
    acked_at: Mapped[int | None] = mapped_column(Big)
    acked_by: Mapped[str | None] = mapped_column(String(100))
    comment: Mapped[str] = mapped_column(Text, default="")
    plant: Mapped[Any] = mapped_column(Json, nullable=True)
    """What the plant said of it, as it said it."""


class RuleStateRow(Base):
    """A rule's memory: it moves by sequence number, compare and swap on `version`."""

    __tablename__ = "rule_states"
    __table_args__ = (UniqueConstraint("version_id", "rule", name="uq_rule_states_rule"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    version_id: Mapped[int] = mapped_column(Big)
    rule: Mapped[str] = mapped_column(String(100))
    sequence: Mapped[int] = mapped_column(Big)
    """The last prediction this rule has seen; the next one it takes is `sequence + 1`."""
    since: Mapped[int] = mapped_column(Big, default=0)
    """ns: end time of the first window since the version was last put in force; older ones are of no concern."""
    at: Mapped[int] = mapped_column(Big, default=0)
    """ns: end time of the last prediction seen."""
    active: Mapped[bool] = mapped_column(Boolean, default=False)
    streak: Mapped[int] = mapped_column(Integer, default=0)
    """Predictions in a row over (or, when active, under) the limit: on- and off-delay."""
    event_id: Mapped[str | None] = mapped_column(String(36))
    version: Mapped[int] = mapped_column(Big, default=0)
