"""A broker that restarts and an edge node that dies: what was kept comes, what was not is told, and all go on alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from app import times
from app.ledger.service import gaps
from tests.journeys.history import arrived
from tests.journeys.outages import Way, invented, unsaid
from tests.journeys.test_outage_kinds import settled
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.journeys.field import Field

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

DEAD = 0x80310000
"""BadNoCommunication."""


async def broker_restarted(field: Field, way: Way) -> None:
    """As after an update: it has written down what it keeps."""
    await field.outside.broker.stop()
    await way.lost()
    await field.outside.broker.start()


async def broker_forgot(field: Field, way: Way) -> None:
    """Without persistence it knows nobody when it comes back."""
    await field.outside.broker.lose_everything()
    await way.lost()
    await field.outside.broker.start()


async def edge_node_died(field: Field, way: Way) -> None:
    """Its tags are seen Bad from then on; born again, they are Good."""
    before, losses = times.now(), way.losses()
    field.outside.cell.on = False

    def bad() -> bool:
        return any(entry[2] == DEAD for _, entry in arrived(field.box.engine, "cell", before))

    await wait_for(bad, 20, "the tags of a dead node are Bad")
    await way.meanwhile()
    field.outside.cell.on = True
    assert way.losses() == losses, "the broker is there all the time"


async def test_a_broker_that_comes_back(field: Field, capsys: pytest.CaptureFixture[str]) -> None:
    """With persistence every message that it has confirmed is stored; without, the gap is told. Others go on."""
    both, cell, report = field.way("device", "cell"), field.way("cell"), field.report("device", "cell")
    engine = field.box.engine
    assert gaps(engine, connection="device") == []
    if field.outside.broker.persistent:
        await report.tried(partial(broker_restarted, field), both, name="broker restarted")
        assert gaps(engine, connection="device") == [], "the broker kept all of it"
        assert len(gaps(engine, connection="cell")) == 1, "nothing is kept for a host application"
    await report.tried(partial(broker_forgot, field), both, name="broker forgot")
    (gap,) = gaps(engine, connection="device")
    assert gap.since > report.episodes[-1].since - 2 * times.NANOS
    await report.tried(partial(edge_node_died, field), cell, name="edge node died")
    end = times.now() - times.NANOS
    for name in ("device", "cell"):
        await wait_for(lambda name=name: settled(field, name, end), 60, "what was read is stored")  # type: ignore[misc]
    with capsys.disabled():
        report.tell()
    for name in ("device", "cell"):
        assert unsaid(field.box.engine, name, field.outside.log(name), end) == [], name
    assert await invented(field.box.engine, "device", partial(field.outside.perhaps, "device")) == []
