"""Certificates that end: secured servers of either make, and our own; a person decides, the rest goes by itself."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from app import times
from app.ledger.service import gaps
from app.sources import service as sources
from bench.outage_field import CONNECTIONS, VAULTS
from bench.outage_plant import SERVER_URI
from connectors.opcua import certificates
from connectors.opcua.own import CERTIFICATE, make
from tests.app.commands.process import headrace
from tests.journeys.outages import Way, invented, unsaid
from tests.journeys.test_outage_kinds import settled
from tests.waiting import wait_for

if TYPE_CHECKING:

    from tests.journeys.field import Field

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(500)]

NAMES: Final = tuple(VAULTS.values())
LIFE: Final = timedelta(seconds=40)
"""Of the first certificate of each server: long enough to be connected to, and for some readings."""
DAY: Final = timedelta(days=1)
SOON_S: Final = 60
"""A peer that was refused is looked at again every 30 s."""


async def trust(field: Field, *words: str) -> str:
    """What a person does on the box; returns what is printed."""
    code, printed, complained = await headrace("--data", str(field.box.data), "--lang", "en", "trust", *words)
    assert code == 0, printed + complained
    return printed


async def error_of(field: Field, name: str) -> str:
    """What the operator reads of a connection that is refused; empty while it is not."""
    found: dict[str, Any] = next(one for one in await field.box.get("/connections") if one["name"] == name)
    return str(found["error"]) if found["state"] == "refused" else ""


async def refused(field: Field, name: str, text: str) -> None:
    """Wait until a connection is refused for this reason."""

    async def said() -> bool:
        return text in await error_of(field, name)

    await wait_for(said, SOON_S, f"{name} is refused: {text}")


async def accepted(field: Field, keys: Path, name: str) -> None:
    """The certificate that a server shows lands in the trust inbox; a person compares it and accepts it."""
    shown = certificates.fingerprint(certificates.of_file(keys / CERTIFICATE)[0])
    await refused(field, name, f"headrace trust accept {shown}")
    await trust(field, "accept", shown, "--connection", name)


async def started(field: Field, folder: Path, since: datetime, lifetime: timedelta) -> None:
    """Every secured server runs with a new certificate."""
    for name in NAMES:
        make(folder / name, SERVER_URI, since=since, lifetime=lifetime)
        await field.outside.servers[name].start("--keys", folder / name)


def trusted_before(field: Field, folder: Path) -> None:
    """These certificates were copied to where trusted ones lie, as with a box that is set up in the workshop."""
    found = {one.config.name: one.config for one in sources.running(field.box.engine, field.box.data).values()}
    for name in NAMES:
        trusted = Path(found[name].data_dir) / "trusted"
        trusted.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name / CERTIFICATE, trusted / CERTIFICATE)


async def servers_expired(field: Field, folder: Path, way: Way) -> None:
    """What stands goes on; after a restart they are refused, though trusted, until they show another certificate."""
    ends = max(certificates.of_file(folder / "old" / name / CERTIFICATE)[0].not_valid_after_utc for name in NAMES)
    await wait_for(lambda: datetime.now(UTC) > ends, LIFE.total_seconds() + 1, "the certificates end")
    losses = way.losses()
    await way.fresh()
    assert way.losses() == losses, "what stands goes on"
    newest = {name: await field.outside.servers[name].tell("count") for name in NAMES}
    for name in NAMES:
        await field.outside.servers[name].stop()
    await way.lost()
    for name in NAMES:
        await field.outside.servers[name].start("--keys", folder / "old" / name, "--first", newest[name])
    for name in NAMES:
        await refused(field, name, "the peer's certificate is valid from")
    await way.meanwhile()
    for name in NAMES:
        await field.outside.servers[name].stop()
    await started(field, folder / "new", datetime.now(UTC) - DAY, 2 * DAY)
    await asyncio.gather(*(accepted(field, folder / "new" / name, name) for name in NAMES))


async def ours_expired(field: Field, way: Way) -> None:
    """We do not use it, and the operator is told the command; after that it goes on by itself."""
    for name in NAMES:
        (shown,) = [one for one in json.loads(await trust(field, "own", "--connection", name, "--json"))
                    if one["use"] == "current"]  # fmt: skip
        file = Path(shown["file"])
        uri = certificates.alternative_names(certificates.of_file(file)[0])[0][0]
        shutil.rmtree(file.parent)
        make(file.parent, uri, since=datetime.now(UTC) - 2 * DAY, lifetime=DAY)
    for name in NAMES:
        await refused(field, name, f"headrace trust switch --connection '{name}'")
    await way.meanwhile()
    for name in NAMES:
        await trust(field, "switch", "--connection", name, "--yes")


async def test_certificates_that_end(field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is refused with what to do; the others go on; what could not be read lies in a gap that is told."""
    way, report = field.way(*NAMES), field.report(*NAMES)
    before = {name: len(gaps(field.box.engine, connection=name)) for name in CONNECTIONS}
    now = datetime.now(UTC)
    await started(field, tmp_path / "old", now - DAY, DAY + LIFE)
    trusted_before(field, tmp_path / "old")
    await way.reached("connected")
    await way.fresh()
    standing = times.now()
    await report.tried(partial(servers_expired, field, tmp_path), way, name="servers_expired")
    await way.reached("connected")
    await report.tried(partial(ours_expired, field), way, name="ours_expired")
    await way.reached("connected")
    end = times.now() - times.NANOS
    for name in NAMES:
        await wait_for(partial(settled, field, name, end), 60, "what was read is stored")
    with capsys.disabled():
        report.tell()
    for name in NAMES:
        missing = unsaid(field.box.engine, name, field.outside.whole(name), end)
        assert [one for one in missing if one[1][0] >= standing] == []
        assert await invented(field.box.engine, name, partial(field.outside.log, name)) == []
        first = next(one for one in report.episodes if one.connection == name)
        told = gaps(field.box.engine, connection=name)
        assert [gap for gap in told if first.since < gap.until <= first.until], "the server that stopped kept nothing"
    after = {name: len(gaps(field.box.engine, connection=name)) for name in before}
    assert after == before, "no other connection was hit"
    for name in NAMES:
        await field.outside.servers[name].stop()
