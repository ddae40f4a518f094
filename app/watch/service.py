"""Looks whether the box keeps its promises, and raises and clears events of those that are broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, update

from app import times
from app.certificates.queries import running
from app.certificates.schemas import STATES
from app.db import insert_all, insert_new, reading, table, writing
from app.events.tables import EventRow
from app.ledger.service import accounts
from app.northbound.queries import north
from app.northbound.schemas import outbox_rows
from app.northbound.tables import OutboxRow
from app.pipelines.tables import PipelineRow
from app.sources.tables import ConnectionRow
from app.watch.schemas import BOX, Finding, Judged, announcement, row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.certificates.queries import Running
    from app.certificates.schemas import State

LEDGER: Final = "ledger_balance"
CERTIFICATE: Final = "certificate"
DEVICE: Final = "device"
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


def uncertified(engine: Engine) -> list[Finding]:
    """Pipelines whose answers no valid certificate stands behind, and those not on the device that they could have."""
    found = []
    for one in running(engine):
        if one.standing is not None and not one.standing.trusted:
            found.append(_certificate(one, one.standing.state))
        if one.missed:
            found.append(_device(one))
    return found


def _certificate(one: Running, state: State) -> Finding:
    name, by = one.version.pipeline, one.override
    said = "" if by is None else f" {by.who} put it in force so: {by.reason}."
    said_zh = "" if by is None else f"由 {by.who} 放行：{by.reason}。"
    ask = f"headrace certify --pipeline '{name}'"
    message = {
        "en": f"{name} runs on {one.device} without a valid certificate: {STATES[state]['en']}. Its answers are "
        f"Uncertain.{said} Run: {ask}",
        "zh-CN": f"{name} 在 {one.device} 上运行而没有有效证书：{STATES[state]['zh-CN']}。其结果为 Uncertain。"
        f"{said_zh}请运行：{ask}",
    }
    return Finding(CERTIFICATE, None, name, message, state, 2, one.version.pipeline_id, "= valid")


def _device(one: Running) -> Finding:
    name = one.version.pipeline
    message = {
        "en": f"{name} runs on {one.device} and not on {one.missed}, which has passed its check before. It goes back "
        "by itself once that device has passed it again, twice within some minutes. See to the device",
        "zh-CN": f"{name} 在 {one.device} 上运行，而不在曾通过检查的 {one.missed} 上。该设备再次通过检查"
        "（数分钟内两次）后会自动恢复。请检查该设备",
    }
    return Finding(DEVICE, None, name, message, one.device, 3, one.version.pipeline_id, f"= {one.missed}")


def judge(engine: Engine, found: Sequence[Finding]) -> list[Judged]:
    """Raise an event for what is newly broken, clear those of what is whole again; tell the consumers of both."""
    judged: list[Judged] = []
    now = times.now()
    broken = {one.key: one for one in found}
    told = []
    with writing(engine) as session:
        # Whoever looks at the same time waits here, and then sees what was raised.
        everybody = select(ConnectionRow.id, ConnectionRow.name).order_by(ConnectionRow.id).with_for_update()
        connections = {row.id: row.name for row in session.execute(everybody)}
        pipelines = {row.id: row.name for row in session.execute(select(PipelineRow.id, PipelineRow.name))}
        mine = (_events.c.source == BOX) & _events.c.cleared_at.is_(None)
        active = {
            (one["rule"], one["connection_id"], one["pipeline_id"]): one
            for one in session.execute(select(_events).where(mine).with_for_update()).mappings()
        }
        for key, finding in broken.items():
            if key not in active and (made := _raised(session, finding, now)) is not None:
                judged.append(Judged(finding.rule, finding.connection, finding.value))
                told.append(announcement(finding.connection, made, "raised", now))
        for key, event in active.items():
            if key not in broken:
                changed = {"cleared_at": now, "state": "normal" if event["acked_at"] else "rtn_unack"}
                session.execute(update(_events).where(_events.c.id == event["id"]).values(changed))
                name = connections.get(key[1]) or pipelines.get(key[2], "")
                judged.append(Judged(event["rule"], name, None))
                told.append(announcement(name, {**event, **changed}, "cleared", now))
        if told:
            insert_all(session, OutboxRow, outbox_rows(north(session), told))
    return judged


def _raised(session: Session, finding: Finding, now: int) -> dict[str, Any] | None:
    """The new event; None when somebody else has just raised it."""
    mine = (_events.c.source == BOX) & (_events.c.rule == finding.rule)
    whose = (_events.c.connection_id, finding.connection_id), (_events.c.pipeline_id, finding.pipeline_id)
    count = select(func.count()).where(mine, *(column.is_not_distinct_from(value) for column, value in whose))
    made = row(finding, session.scalar(count) or 0, now)
    return made if insert_new(session, EventRow, made) else None
