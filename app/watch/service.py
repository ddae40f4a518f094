"""Looks whether the box keeps its promises, and raises and clears events of those that are broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, update

from app import times
from app.db import insert_all, insert_new, reading, table, writing
from app.events.tables import EventRow
from app.ledger.service import accounts
from app.log import PROMISE_BROKEN, PROMISE_KEPT, get_logger
from app.northbound.queries import north
from app.northbound.schemas import outbox_rows
from app.northbound.tables import OutboxRow
from app.sources.tables import ConnectionRow
from app.watch.schemas import BOX, Finding, announcement, row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

log = get_logger(__name__)

LEDGER: Final = "ledger_balance"
_events = table(EventRow)


def unbalanced(engine: Engine) -> list[Finding]:
    """Connections whose account does not balance: read = stored + refused + dropped + held, each counted by itself."""
    with reading(engine) as session:
        ids = {name: key for key, name in session.execute(select(ConnectionRow.id, ConnectionRow.name))}
    found = []
    for one in accounts(engine):
        off = one.read - one.stored - one.refused - one.dropped - one.held
        if not off:
            continue
        en = "more than has a fate" if off > 0 else "fewer than have a fate"
        zh = "多于" if off > 0 else "少于"
        message = {
            "en": f"The ledger of {one.name} does not balance: {abs(off)} readings {en}. Keep the data, report it.",
            "zh-CN": f"{one.name} 的台账不平衡：读取数{zh}有去向的读数 {abs(off)} 个。请保留数据目录并报告。",
        }
        found.append(Finding(LEDGER, ids[one.name], one.name, message, off))
    return found


def judge(engine: Engine, found: Sequence[Finding]) -> None:
    """Raise an event for what is newly broken, clear those of what is whole again; tell the consumers of both."""
    now = times.now()
    broken = {(one.rule, one.connection_id): one for one in found}
    told = []
    with writing(engine) as session:
        # Whoever looks at the same time waits here, and then sees what was raised.
        everybody = select(ConnectionRow.id, ConnectionRow.name).order_by(ConnectionRow.id).with_for_update()
        names = {row.id: row.name for row in session.execute(everybody)}
        mine = (_events.c.source == BOX) & _events.c.cleared_at.is_(None)
        active = {
            (one["rule"], one["connection_id"]): one
            for one in session.execute(select(_events).where(mine).with_for_update()).mappings()
        }
        for key, finding in broken.items():
            if key not in active and (made := _raised(session, finding, now)) is not None:
                log.error(PROMISE_BROKEN, rule=finding.rule, connection=finding.connection, off_by=finding.value)
                told.append(announcement(finding.connection, made, "raised", now))
        for key, event in active.items():
            if key not in broken:
                changed = {"cleared_at": now, "state": "normal" if event["acked_at"] else "rtn_unack"}
                session.execute(update(_events).where(_events.c.id == event["id"]).values(changed))
                log.info(PROMISE_KEPT, rule=event["rule"], connection=names[event["connection_id"]])
                told.append(announcement(names[event["connection_id"]], {**event, **changed}, "cleared", now))
        if told:
            insert_all(session, OutboxRow, outbox_rows(north(session), told))


def _raised(session: Session, finding: Finding, now: int) -> dict[str, Any] | None:
    """The new event; None when somebody else has just raised it."""
    mine = (_events.c.source == BOX) & (_events.c.rule == finding.rule)
    count = select(func.count()).where(mine, _events.c.connection_id == finding.connection_id)
    made = row(finding, session.scalar(count) or 0, now)
    return made if insert_new(session, EventRow, made) else None
