"""`headrace trust`: certificates that peers have shown, and our own; a person says which are right."""

from __future__ import annotations

import getpass
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

import connectors
from app.access import service as access
from app.commands.certificates import as_plain, show_certificate
from app.commands.console import as_json, fail, out, t
from app.commands.plant import database
from app.commands.running import Data, choose_data
from app.northbound import service as northbound
from app.settings import settings
from app.sources import service as sources
from app.times import rfc3339
from connectors import ConnectionConfig, PeerCertificate, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from connectors import OwnCertificate, Trust, TrustState

SHORTEST: Final = 8
"""Digits of a fingerprint: fewer could be met by chance."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Print = Annotated[str, typer.Argument(help="SHA-256 fingerprint, or its first digits: at least 8.")]
Name = Annotated[str | None, typer.Option("--connection", help="Only this connection or subscription.")]


@dataclass(frozen=True, slots=True)
class Owner:
    """A connection or subscription that has certificates."""

    name: str
    trust: Trust


def _owners(engine: Engine, name: str | None) -> list[Owner]:
    """Every connection and subscription whose connector knows certificates, or the one of this name."""
    data = settings().data_dir.resolve()
    configs = [(one.connector, one.config) for one in sources.running(engine, data).values()]
    for key, one in northbound.subscriptions(engine).items():
        folder = northbound.folder(data, key)
        configs.append((one.connector, ConnectionConfig(one.name, one.options, (), one.revision, folder)))
    found = []
    for connector, config in configs:
        try:
            module: Any = connectors.load(connector)
        except (KeyError, connectors.NotInstalledError):
            continue
        if hasattr(module, "trust"):
            found.append(Owner(config.name, module.trust(config)))
    named = [one for one in found if name in {None, one.name}]
    if name is not None and not named:
        raise fail(t("No connection {name} with certificates; there are: {names}", name=name, names=_names(found)))
    return named


def _names(owners: Sequence[Owner]) -> str:
    return ", ".join(sorted({one.name for one in owners})) or "-"


@contextmanager
def _opened(data: Path | None, name: str | None) -> Iterator[tuple[Engine, list[Owner]]]:
    """The database, and whose certificates are meant; what a file says wrong is a sentence."""
    choose_data(data)
    with database(make=False) as engine:
        try:
            yield engine, _owners(engine, name)
        except RefusedError as error:
            raise fail(str(error)) from error
        except OSError as error:
            what = f"{error.filename}: {error.strerror}"
            raise fail(what) from error


def listed(context: typer.Context, *, json_: Json = False, data: Data = None) -> None:
    """Show and decide which certificates of OPC UA peers are trusted; alone, it lists them."""
    if context.invoked_subcommand is not None:
        return
    with _opened(data, None) as (_, owners):
        peers = [(owner.name, one) for owner in owners for one in owner.trust.peers()]
    if json_:
        as_json([{"connection": name, **_peer(one)} for name, one in peers])
    elif not peers:
        out.print(t("No peer has shown a certificate yet."))
    else:
        for name, one in peers:
            show_certificate(name, t(one.state), one.certificate, [(t("first seen"), rfc3339(one.first_seen)[:19])])
        if any(one.state == "pending" for _, one in peers):
            out.print(t("Compare a fingerprint with the one the device shows, then: headrace trust accept FINGERPRINT"))


def _peer(one: PeerCertificate) -> dict[str, Any]:
    return {"state": one.state, "first_seen": rfc3339(one.first_seen), "file": one.file, **as_plain(one.certificate)}


def accept(fingerprint: Print, *, connection: Name = None, data: Data = None) -> None:
    """Trust a peer's certificate from now on; a running gateway connects by itself."""
    _decide(fingerprint, connection, data, "trusted")


def reject(fingerprint: Print, *, connection: Name = None, data: Data = None) -> None:
    """Refuse a peer's certificate from now on; a running gateway lets go of that peer."""
    _decide(fingerprint, connection, data, "rejected")


def remove(fingerprint: Print, *, connection: Name = None, data: Data = None) -> None:
    """Forget a peer's certificate: when it is shown again, it is pending again."""
    _decide(fingerprint, connection, data, None)


def _decide(wanted: str, name: str | None, data: Path | None, state: TrustState | None) -> None:
    with _opened(data, name) as (engine, owners):
        found = matching(owners, _digits(wanted))
        for owner, one in found:
            shown = one.certificate.fingerprint
            if state is None:
                owner.trust.forget(shown)
            else:
                owner.trust.decide(shown, state)
            detail = {"fingerprint": shown, "subject": one.certificate.subject, "was": one.state}
            access.record(engine, getpass.getuser(), f"certificate_{state or 'removed'}", owner.name, detail)
            out.print(_done(owner.name, shown, state), markup=False)


def _done(name: str, shown: str, state: TrustState | None) -> str:
    if state == "trusted":
        return t("{name} trusts {fingerprint}.", name=name, fingerprint=shown)
    if state == "rejected":
        return t("{name} refuses {fingerprint}.", name=name, fingerprint=shown)
    return t("{name} has forgotten {fingerprint}.", name=name, fingerprint=shown)


def _digits(wanted: str) -> str:
    digits = wanted.replace(":", "").replace(" ", "").lower()
    if len(digits) < SHORTEST or set(digits) - set("0123456789abcdef"):
        raise fail(t("A fingerprint has hexadecimal digits; give at least {count}.", count=SHORTEST), 2)
    return digits


def matching(owners: Sequence[Owner], digits: str) -> list[tuple[Owner, PeerCertificate]]:
    """Whose certificate it is, once for each; one certificate may be known to several."""
    known = [(owner, one) for owner in owners for one in owner.trust.peers()]
    found = [(owner, one) for owner, one in known if one.certificate.fingerprint.startswith(digits)]
    prints = sorted({one.certificate.fingerprint for _, one in found})
    if not prints:
        raise fail(t("No certificate has the fingerprint {digits}; see: headrace trust", digits=digits))
    if len(prints) > 1:
        raise fail(t("Several certificates begin so: {prints}", prints=", ".join(prints)))
    return list({id(owner): (owner, one) for owner, one in found}.values())


def own(*, connection: Name = None, json_: Json = False, data: Data = None) -> None:
    """Show our own certificates, which the peers must trust: the one in use, and the next where one is prepared."""
    with _opened(data, connection) as (_, owners):
        ours = [(owner.name, one) for owner in owners for one in owner.trust.own()]
    if json_:
        as_json([{"connection": n, "use": one.use, "file": one.file, **as_plain(one.certificate)} for n, one in ours])
    elif not ours:
        out.print(t("We have no certificate yet: it is made with the first secured connection."))
    for name, one in [] if json_ else ours:
        show_certificate(name, t(one.use), one.certificate, [(t("file"), one.file)])


def switch(
    *,
    connection: Name = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Use the next certificate of ours, once the peers trust it; a running gateway connects anew with it."""
    with _opened(data, connection) as (engine, owners):
        waiting = [(owner, one) for owner in owners for one in owner.trust.own() if one.use == "next"]
        if len(waiting) != 1:
            names = _names([owner for owner, _ in waiting])
            raise fail(t("Say with --connection which one; a next certificate is prepared for: {names}", names=names))
        ((owner, following),) = waiting
        if not yes:
            _ask(owner, following)
        used = owner.trust.switch().certificate.fingerprint
        detail = {"fingerprint": used}
        access.record(engine, getpass.getuser(), "own_certificate_switched", owner.name, detail)
    out.print(t("{name} uses {fingerprint} from now on.", name=owner.name, fingerprint=used), markup=False)


def _ask(owner: Owner, following: OwnCertificate) -> None:
    show_certificate(owner.name, t(following.use), following.certificate, [(t("file"), following.file)])
    if not typer.confirm(t("A peer that does not trust it will refuse us. Switch?")):
        raise fail(t("Nothing was changed."))
