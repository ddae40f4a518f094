"""The trust inbox: what a peer shows lands in it, a person decides, and an authority vouches only for whom it names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from connectors import ConnectionConfig, RefusedError, Trust
from connectors.opcua import trust
from connectors.opcua.inbox import MOST_PENDING, Inbox
from tests.connectors.opcua_certificates import Issued, issue

SERVER = "urn:plant:server"


@pytest.fixture(scope="module")
def stranger() -> Issued:
    """Nobody has heard of it."""
    return issue("press", uri=SERVER, host="press.example")


@pytest.fixture(scope="module")
def authority() -> Issued:
    """A plant's own."""
    return issue("CA", ca=True)


def person(folder: Path, **options: object) -> Trust:
    """What `headrace trust` has in its hand."""
    return trust(ConnectionConfig("line", options, (), 1, str(folder)))


def states(folder: Path) -> list[tuple[str, str]]:
    """Fingerprint and state of all that is known."""
    return [(one.certificate.fingerprint, one.state) for one in person(folder).peers()]


def test_an_unknown_certificate_is_pending(tmp_path: Path, stranger: Issued) -> None:
    """The peer is refused, the operator is told the command, and sees what to compare; shown twice, it is kept once."""
    inbox = Inbox(tmp_path, ())
    with pytest.raises(RefusedError, match=f"not trusted.*headrace trust accept {stranger.fingerprint}"):
        inbox.check(stranger.der)
    (shown,) = person(tmp_path).peers()
    assert (shown.state, shown.certificate.fingerprint) == ("pending", stranger.fingerprint)
    assert (shown.certificate.subject, shown.certificate.application_uri) == ("CN=press", SERVER)
    assert shown.certificate.hosts == ("press.example",)
    assert shown.certificate.valid_from < shown.first_seen < shown.certificate.valid_to
    os.utime(shown.file, ns=(1, 1_000_000_000))
    with pytest.raises(RefusedError, match="not trusted"):
        inbox.check(stranger.der)
    assert person(tmp_path).peers()[0].first_seen == 1_000_000_000
    assert Path(shown.file).read_bytes() == stranger.der


def test_a_person_decides(tmp_path: Path, stranger: Issued) -> None:
    """Trusted is let in, rejected stays out and says so, forgotten is pending when it comes again."""
    inbox, mine = Inbox(tmp_path, ()), stranger.fingerprint
    with pytest.raises(RefusedError):
        inbox.check(stranger.der)
    person(tmp_path).decide(mine, "trusted")
    assert states(tmp_path) == [(mine, "trusted")]
    assert inbox.check(stranger.der) == stranger.certificate
    person(tmp_path).decide(mine, "rejected")
    assert states(tmp_path) == [(mine, "rejected")]
    with pytest.raises(RefusedError, match="was rejected here"):
        inbox.check(stranger.der)
    assert states(tmp_path) == [(mine, "rejected")]
    person(tmp_path).forget(mine)
    assert states(tmp_path) == []
    with pytest.raises(RefusedError, match="not trusted"):
        inbox.check(stranger.der)
    assert states(tmp_path) == [(mine, "pending")]


def test_what_is_not_known_cannot_be_decided(tmp_path: Path) -> None:
    """A fingerprint of nothing is an error, whatever is asked."""
    with pytest.raises(KeyError):
        person(tmp_path).decide("ab" * 32, "trusted")
    with pytest.raises(KeyError):
        person(tmp_path).forget("ab" * 32)


def test_rejected_wins(tmp_path: Path, stranger: Issued, authority: Issued) -> None:
    """A rejected certificate stays out though it also lies in `trusted/`, or an authority vouches for it."""
    for state in ("trusted", "rejected"):
        (tmp_path / state).mkdir()
        (tmp_path / state / "press.der").write_bytes(stranger.der)
    with pytest.raises(RefusedError, match="was rejected here"):
        Inbox(tmp_path, ()).check(stranger.der)
    person(tmp_path).decide(stranger.fingerprint, "trusted")
    assert states(tmp_path) == [(stranger.fingerprint, "trusted")]
    issued = issue("pump", authority, uri=SERVER, host="192.0.2.7")
    (tmp_path / "trusted" / "ca.der").write_bytes(authority.der)
    (tmp_path / "rejected" / "pump.der").write_bytes(issued.der)
    with pytest.raises(RefusedError, match="was rejected here"):
        Inbox(tmp_path, ()).check(issued.der, "192.0.2.7", SERVER)


def test_the_inbox_is_bounded(tmp_path: Path, stranger: Issued) -> None:
    """Whoever floods us fills no disk: one more is refused, not kept, and the operator is told why."""
    pending = tmp_path / "pending"
    pending.mkdir()
    for number in range(MOST_PENDING):
        (pending / f"{number}.der").write_bytes(b"")
    with pytest.raises(RefusedError, match=rf"not kept: {MOST_PENDING} others are pending"):
        Inbox(tmp_path, ()).check(stranger.der)
    assert len(list(pending.iterdir())) == MOST_PENDING


def test_a_huge_certificate_is_not_read(tmp_path: Path) -> None:
    """A peer cannot make us keep what it likes."""
    with pytest.raises(RefusedError, match="60004 bytes"):
        Inbox(tmp_path, ()).check(b"\x30\x82" + (60_000).to_bytes(2, "big") + bytes(60_000))
    assert not (tmp_path / "pending").exists()


def test_a_subject_cannot_move_the_cursor(tmp_path: Path) -> None:
    """What a stranger writes into a certificate reaches the operator's terminal as text."""
    with pytest.raises(RefusedError) as refused:
        Inbox(tmp_path, ()).check(issue("press\x1b[2J").der)
    assert "\x1b" not in str(refused.value)
    assert "\x1b" not in person(tmp_path).peers()[0].certificate.subject


def test_configured_files_are_left_alone(tmp_path: Path, stranger: Issued) -> None:
    """What `trusted_certificates` names is trusted and shown; it can be rejected, and removed only where it stands."""
    file = tmp_path / "press.der"
    file.write_bytes(stranger.der)
    mine = tmp_path / "own folder"
    options = {"trusted_certificates": [file]}
    assert Inbox(mine, (file,)).check(stranger.der) == stranger.certificate
    assert [one.state for one in person(mine, **options).peers()] == ["trusted"]
    with pytest.raises(RefusedError, match=r"press\.der, which is not changed by us"):
        person(mine, **options).forget(stranger.fingerprint)
    person(mine, **options).decide(stranger.fingerprint, "rejected")
    with pytest.raises(RefusedError, match="was rejected here"):
        Inbox(mine, (file,)).check(stranger.der)
    person(mine, **options).decide(stranger.fingerprint, "trusted")
    assert Inbox(mine, (file,)).check(stranger.der) == stranger.certificate
    assert file.read_bytes() == stranger.der


def test_copied_by_hand(tmp_path: Path, stranger: Issued) -> None:
    """A file that a person put into `trusted/` under any name counts at once."""
    inbox = Inbox(tmp_path, ())
    with pytest.raises(RefusedError):
        inbox.check(stranger.der)
    shutil.copy(tmp_path / "pending" / f"{stranger.fingerprint}.der", tmp_path / "trusted" / "the press.cer")
    assert inbox.check(stranger.der) == stranger.certificate


def test_an_authority_vouches_for_whom_it_names(tmp_path: Path, authority: Issued) -> None:
    """The peer at this address with this application URI, and no other one that has a certificate of that authority."""
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "ca.der").write_bytes(authority.der)
    inbox, issued = Inbox(tmp_path, ()), issue("server", authority, uri=SERVER, host="press.example")
    assert inbox.check(issued.der, "PRESS.example", SERVER) == issued.certificate
    assert inbox.check(issued.der + authority.der, "press.example", SERVER) == issued.certificate
    with pytest.raises(RefusedError, match=r"vouches for press\.example, and the address says 192\.0\.2\.9"):
        inbox.check(issued.der, "192.0.2.9", SERVER)
    with pytest.raises(RefusedError, match="the peer calls itself urn:else"):
        inbox.check(issued.der, "press.example", "urn:else")
    person(tmp_path).decide(issued.fingerprint, "trusted")
    assert inbox.check(issued.der, "192.0.2.9", "urn:else") == issued.certificate


def test_authorities_between(tmp_path: Path, authority: Issued) -> None:
    """A peer may send the authorities between itself and the trusted one; none that is no authority counts."""
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "ca.der").write_bytes(authority.der)
    inbox = Inbox(tmp_path, ())
    line, leaf = issue("line CA", authority, ca=True), issue("leaf", authority)
    cell = issue("cell CA", line, ca=True)
    good, forged = (issue("server", one, uri=SERVER, host="press.example") for one in (cell, leaf))
    assert inbox.check(good.der + cell.der + line.der, "press.example", SERVER) == good.certificate
    assert inbox.check(good.der + line.der + cell.der, "press.example", SERVER) == good.certificate
    for chain in (good.der, good.der + cell.der, good.der + cell.der + b"noise", forged.der + leaf.der):
        with pytest.raises(RefusedError, match="not trusted, it is not known here"):
            inbox.check(chain, "press.example", SERVER)
    assert inbox.pending() == 2


def _no_signing_key() -> x509.KeyUsage:
    used = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False, **used
    )


@pytest.mark.parametrize("what", ["key usage", "path length", "short hash", "other use"])
def test_what_an_authority_may_not_do(tmp_path: Path, authority: Issued, what: str) -> None:
    """Sign without being allowed to, have authorities below itself, use a short hash, vouch for another use."""
    server: dict[str, Any] = {"uri": SERVER, "host": "press.example"}
    anchor, between, said = authority, b"", "not known here"
    if what == "key usage":
        anchor = issue("CA", ca=True, more=[_no_signing_key()])
        shown = issue("server", anchor, **server)
    elif what == "path length":
        anchor = issue("CA", ca=True, below=0)
        line = issue("line CA", anchor, ca=True)
        shown, between = issue("server", line, **server), line.der
    elif what == "short hash":
        shown = issue("server", anchor, digest=hashes.SHA224(), **server)
    else:
        clients_only = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        shown, said = issue("server", anchor, more=[clients_only], **server), "did not issue it for this use"
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "ca.der").write_bytes(anchor.der)
    with pytest.raises(RefusedError, match=said):
        Inbox(tmp_path, ()).check(shown.der + between, "press.example", SERVER)


def test_who_is_no_authority_vouches_for_itself_alone(tmp_path: Path, authority: Issued) -> None:
    """Neither a trusted certificate that is no CA's, nor a CA that has expired, lets another one in."""
    (tmp_path / "trusted").mkdir()
    leaf, old = issue("leaf"), issue("old CA", ca=True, days=(-30, -1))
    for number, anchor in enumerate((leaf, old)):
        (tmp_path / "trusted" / f"{number}.der").write_bytes(anchor.der)
        forged = issue("forged", anchor, uri=SERVER, host="press.example")
        with pytest.raises(RefusedError, match="not trusted"):
            Inbox(tmp_path, ()).check(forged.der, "press.example", SERVER)
    name_only = issue("server", issue("CA", ca=True), uri=SERVER, host="press.example")
    (tmp_path / "trusted" / "ca.der").write_bytes(authority.der)
    with pytest.raises(RefusedError, match="not trusted"):
        Inbox(tmp_path, ()).check(name_only.der, "press.example", SERVER)


@pytest.mark.parametrize("days", [(-30, -1), (1, 30)])
def test_validity(tmp_path: Path, days: tuple[int, int]) -> None:
    """An expired certificate is refused even if it is trusted, and one that is not yet valid too."""
    old = issue("old", days=days)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "old.der").write_bytes(old.der)
    with pytest.raises(RefusedError, match="is valid from"):
        Inbox(tmp_path, ()).check(old.der)


def test_a_short_key(tmp_path: Path) -> None:
    """A key that no policy of ours allows is refused even if it is trusted."""
    short = issue("short", bits=1024)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "short.der").write_bytes(short.der)
    with pytest.raises(RefusedError, match="RSA key of 1024 bits"):
        Inbox(tmp_path, ()).check(short.der)


@pytest.mark.parametrize("der", [None, b"", b"noise", b"\x30\x82\x00\x02ab"])
def test_no_certificate(tmp_path: Path, der: bytes | None) -> None:
    """A peer without a readable certificate is refused, and nothing is kept of it."""
    with pytest.raises(RefusedError):
        Inbox(tmp_path, ()).check(der)
    assert not (tmp_path / "pending").exists()


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, stranger: Issued) -> None:
    """Noise in the trust list is not passed over: nobody knows what it should have said."""
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "noise.der").write_bytes(b"noise")
    with pytest.raises(RefusedError, match=r"noise\.der is not a certificate"):
        Inbox(tmp_path, ()).check(stranger.der)
