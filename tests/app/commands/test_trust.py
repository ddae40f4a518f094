"""`headrace trust`: a person decides about certificates in the data folder of a box."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from sqlalchemy import Engine, select
from typer.testing import Result

from app.access.tables import AuditRow
from app.commands.trust import Owner, matching
from app.db import make_engine, reading, upgrade, writing
from app.northbound.tables import SubscriptionRow
from app.sources.tables import ConnectionRow
from connectors import Certificate, OwnCertificate, PeerCertificate, RefusedError, TrustState
from connectors.opcua.inbox import Inbox
from connectors.opcua.own import Own, make
from tests.connectors.opcua_certificates import Issued, issue

Run = Callable[..., Result]


@dataclass(frozen=True)
class Box:
    """A data folder with two OPC UA connections, an MQTT one, and our own OPC UA server."""

    data: Path
    engine: Engine

    def folder(self, name: str) -> Path:
        """Of a connection, or of the subscription `scada`."""
        return self.data / {"press": "connections/1", "pump": "connections/2", "scada": "subscriptions/1"}[name]

    def show(self, name: str, shown: Issued) -> None:
        """A peer shows its certificate."""
        with suppress(RefusedError):
            Inbox(self.folder(name), ()).check(shown.der)

    def trusts(self, name: str, shown: Issued) -> bool:
        """Whether the peer would be let in."""
        try:
            Inbox(self.folder(name), ()).check(shown.der)
        except RefusedError:
            return False
        return True

    def audited(self) -> list[tuple[str, str, str]]:
        """What the audit log says: action, target, fingerprint."""
        with reading(self.engine) as session:
            rows = session.scalars(select(AuditRow).where(AuditRow.action.contains("certificate"))).all()
            return [(row.action, row.target, row.detail["fingerprint"]) for row in rows]


@pytest.fixture
def box(data: Path) -> Iterator[Box]:
    """Configured; no gateway has run yet."""
    data.mkdir()
    url = f"sqlite:///{data / 'headrace.db'}"
    upgrade(url)
    engine = make_engine(url)
    with writing(engine) as session:
        for name, connector in (("press", "opcua"), ("pump", "opcua"), ("station", "mqtt")):
            session.add(ConnectionRow(name=name, connector=connector, options={}, revision=1))
            session.flush()
        session.add(SubscriptionRow(name="scada", connector="opcua", options={}))
    yield Box(data, engine)
    engine.dispose()


@pytest.fixture(scope="module")
def server() -> Issued:
    """What a press shows."""
    return issue("S7", uri="urn:plant:press", host="press.example")


def test_nothing_yet(run: Run, box: Box) -> None:
    """Before a peer was met there is nothing to decide, and nothing is made by looking."""
    assert "No peer has shown a certificate yet." in run("trust").stdout
    assert "还没有对端出示过证书" in run("trust", "--lang", "zh-CN").stdout
    assert "We have no certificate yet" in run("trust", "own").stdout
    assert json.loads(run("trust", "--json").stdout) == json.loads(run("trust", "own", "--json").stdout) == []
    assert not (box.data / "connections").exists()


def test_listed(run: Run, box: Box, server: Issued) -> None:
    """Connection, state, subject, URI, fingerprint, span and first sight, for people and for programs."""
    box.show("press", server)
    found = run("trust")
    for part in ("press", "pending", "CN=S7", "urn:plant:press", server.fingerprint, "press.example", "first seen"):
        assert part in found.stdout
    assert "headrace trust accept FINGERPRINT" in found.stdout
    (one,) = json.loads(run("trust", "--json").stdout)
    assert (one["connection"], one["state"], one["fingerprint"]) == ("press", "pending", server.fingerprint)
    assert (one["subject"], one["application_uri"], one["hosts"]) == ("CN=S7", "urn:plant:press", ["press.example"])
    assert one["valid_from"] < one["first_seen"] < one["valid_to"]


def test_accept_reject_remove(run: Run, box: Box, server: Issued) -> None:
    """By prefix, with colons or capitals; each word is said, done, and in the audit log."""
    box.show("press", server)
    prefix = ":".join(server.fingerprint[n : n + 2] for n in range(0, 10, 2)).upper()
    assert run("trust", "accept", prefix).stdout == f"press trusts {server.fingerprint}.\n"
    assert box.trusts("press", server)
    assert not box.trusts("scada", server)
    assert run("trust", "reject", server.fingerprint, "--connection", "press").exit_code == 0
    assert not box.trusts("press", server)
    assert run("trust", "remove", server.fingerprint[:8], "--connection", "press").exit_code == 0
    states = {one["connection"]: one["state"] for one in json.loads(run("trust", "--json").stdout)}
    assert states == {"scada": "pending"}
    assert box.audited() == [
        ("certificate_trusted", "press", server.fingerprint),
        ("certificate_rejected", "press", server.fingerprint),
        ("certificate_removed", "press", server.fingerprint),
    ]


def test_one_certificate_at_several_connections(run: Run, box: Box, server: Issued) -> None:
    """Accepted once, it is accepted wherever it waits; with a connection, only there."""
    for name in ("press", "pump", "scada"):
        box.show(name, server)
    assert run("trust", "accept", server.fingerprint, "--connection", "scada").exit_code == 0
    assert [box.trusts(name, server) for name in ("press", "pump", "scada")] == [False, False, True]
    assert run("trust", "accept", server.fingerprint).exit_code == 0
    assert [box.trusts(name, server) for name in ("press", "pump", "scada")] == [True, True, True]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("accept", "abc"), 2, "at least 8"),
        (("accept", "no fingerprint"), 2, "hexadecimal"),
        (("accept", "0123456789"), 1, "No certificate has the fingerprint"),
        (("reject", "0123456789"), 1, "No certificate has the fingerprint"),
        (("remove", "0123456789"), 1, "No certificate has the fingerprint"),
        (("accept", "0123456789", "--connection", "station"), 1, "there are: press, pump, scada"),
        (("own", "--connection", "absent"), 1, "No connection absent"),
        (("switch",), 1, "a next certificate is prepared for: -"),
    ],
)
def test_what_cannot_be_decided(run: Run, box: Box, words: tuple[str, ...], code: int, said: str) -> None:
    """A sentence that says what to do instead; nothing is changed."""
    found = run("trust", *words)
    assert (found.exit_code, len(found.stderr.splitlines())) == (code, 1)
    assert said in found.stderr
    assert box.audited() == []


def test_a_file_that_is_no_certificate_is_named(run: Run, box: Box) -> None:
    """Noise in the inbox is a sentence."""
    (box.folder("press") / "trusted").mkdir(parents=True)
    (box.folder("press") / "trusted" / "noise.der").write_bytes(b"noise")
    found = run("trust")
    assert (found.exit_code, len(found.stderr.splitlines())) == (1, 1)
    assert "noise.der is not a certificate" in found.stderr


@dataclass
class Known:
    """Certificates of a peer in the test's hand."""

    prints: tuple[str, ...]

    def peers(self) -> tuple[PeerCertificate, ...]:
        """See `connectors.Trust`."""
        return tuple(PeerCertificate(Certificate(p, "", "", (), 0, 0), "pending", 0, "") for p in self.prints)

    def decide(self, fingerprint: str, state: TrustState) -> None:
        """Nothing is decided here."""

    def forget(self, fingerprint: str) -> None:
        """Nothing is forgotten here."""

    def own(self) -> tuple[OwnCertificate, ...]:
        """None."""
        return ()

    def switch(self) -> OwnCertificate:
        """There is none."""
        raise RefusedError


def test_a_prefix_of_two(capsys: pytest.CaptureFixture[str]) -> None:
    """Which of them is meant is not guessed: both are named."""
    first, second = "ab" * 32, "ab" * 31 + "ac"
    owners = [Owner("press", Known((first, second))), Owner("pump", Known((first,)))]
    assert [owner.name for owner, _ in matching(owners, first)] == ["press", "pump"]
    with pytest.raises(typer.Exit):
        matching(owners, first[:62])
    complained = capsys.readouterr().err.replace("\n", "")
    assert first in complained
    assert second in complained


def test_own_and_switch(run: Run, box: Box) -> None:
    """Both certificates are shown with their files; after the question the next one is used."""
    folder = box.folder("press")
    lifetime = timedelta(days=400)
    make(folder / "own", "urn:us", since=datetime.now(UTC) - timedelta(days=370), lifetime=lifetime)
    Own(box.folder("pump"), None, "pump").use()
    Own(folder, "urn:us", "press").tend()
    current, following, pump = json.loads(run("trust", "own", "--json").stdout)
    assert [(one["connection"], one["use"]) for one in (current, following, pump)] == [
        ("press", "current"),
        ("press", "next"),
        ("pump", "current"),
    ]
    for part in (following["fingerprint"], following["file"], current["fingerprint"], "urn:us"):
        assert part in run("trust", "own", "--connection", "press").stdout
    found = run("trust", "switch", answer="n\n")
    assert (found.exit_code, "will refuse us" in found.stdout, "Nothing was changed" in found.stderr) == (1, True, True)
    assert json.loads(run("trust", "own", "--json").stdout)[0] == current
    found = run("trust", "switch", answer="y\n")
    assert f"press uses {following['fingerprint']} from now on." in found.stdout
    now = json.loads(run("trust", "own", "--json", "--connection", "press").stdout)
    assert [(one["use"], one["fingerprint"]) for one in now] == [("current", following["fingerprint"])]
    assert box.audited() == [("own_certificate_switched", "press", following["fingerprint"])]
