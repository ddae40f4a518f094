"""What must be true of a box whose power was cut: each part is opened as the product opens it, without repair."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import text

from app.access.seal import unseal
from app.backup.archive import Reader
from app.commands.conform_report import own_key
from app.db import make_engine, reading
from app.field.snapshots import Snapshots
from app.journal import Position
from app.launcher import files
from app.settings import Settings, use
from connectors._continuity import Continuity
from connectors.opcua.inbox import Inbox
from connectors.opcua.own import Own
from connectors.opcua.resume import FILE, kept
from tests.chaos.writing import URI, journal_of

Check = Callable[[Path, Sequence[str]], str]
"""The data folder, and what was promised -> what is wrong; empty when nothing is."""
UNSEEN: Final = ("/package", "/golden.npz")
"""Foreign files are unpacked and run by a child with a bare environment, and with no library of ours."""
LAST: Final = Position(2**31, 0)


def journal(data: Path, promised: Sequence[str]) -> str:
    """It holds what was acknowledged, or says that it was dropped; it calls nothing damaged, and counts on."""
    told = [line.split() for line in promised]
    opened = journal_of(data)
    try:
        entries = opened.read_after(Position(0, 0), records=1000)
        there = {(*one.position, one.record.received_time) for one in entries if one.record}
        remains = [one.remains for one in entries if one.remains]
        dropped = {(one.epoch, number) for one in remains for number in range(one.first, one.last + 1)}
        wanted = {tuple(map(int, words[1:])) for words in told if words[0] == "record"}
        missing = {one for one in wanted - there if one[:2] not in dropped}
        epochs = [int(words[1]) for words in told if words[0] == "epoch"]
        again = opened.epoch in epochs
        return f"{missing=} {opened.damaged=} {again=}" if missing or opened.damaged or again else ""
    finally:
        opened.close()


def inherited(data: Path, promised: Sequence[str]) -> str:
    """What a journal has given to its reader is there for ever, whoever wrote it."""
    return journal(data, promised)


def snapshots(data: Path, promised: Sequence[str]) -> str:
    """The newest can be read."""
    found = Snapshots(data / "journal" / "g" / "snapshots").newest(LAST)
    number = found.number if found else 0
    return "" if number >= max(map(int, promised), default=0) else f"the newest is {number}"


def database(data: Path, promised: Sequence[str]) -> str:
    """Whole, with every batch whose commit has returned."""
    if not promised and not data.exists():
        return ""
    engine = make_engine(f"sqlite:///{data / 'headrace.db'}")
    try:
        with reading(engine) as session:
            (whole,) = session.execute(text("PRAGMA integrity_check")).scalars()
            if whole != "ok":
                return str(whole)
            there = {row.number for row in session.execute(text("SELECT * FROM batch"))} if promised else set()
            missing = set(map(int, promised)) - there
            return f"{missing=}" if missing else ""
    finally:
        engine.dispose()


def key(data: Path, promised: Sequence[str]) -> str:
    """What was sealed can be opened, and what was signed bears the key that we have."""
    use(Settings(data_dir=data, secret_key=None))
    if not all(unseal(json.loads(one)) == "open sesame" for one in promised[:1]):
        return "another text"
    public = own_key(data / "conform.key", make=True).public_key().public_bytes_raw().hex()
    return "" if list(promised[1:]) in ([], [public]) else "another key"


def models(data: Path, promised: Sequence[str]) -> str:
    """Each that a row may name is there, with its contract; what a child has unpacked nobody has seen (`UNSEEN`)."""
    there = [f"sha256:{one.name}" for one in data.glob("models/sha256/*")]
    for digest in {*promised, *there}:
        json.loads((data / "models" / digest.replace(":", "/") / "contract.json").read_bytes())
    return ""


def gap(data: Path, promised: Sequence[str]) -> str:
    """Until it is told it is remembered, and so is a question whose answer nobody has seen."""
    continuity = Continuity(str(data / "connections" / "1"))
    continuity.asks()
    doubtful = continuity.doubtful
    continuity.connected(took_up=True)
    if promised and promised[-1] == "asked":
        return "" if doubtful or continuity.broken else "the question is forgotten"
    return "the gap is forgotten" if promised and promised[-1] == "untold" and not continuity.broken else ""


def session(data: Path, promised: Sequence[str]) -> str:
    """The newest can be resumed, and one that was given up does not come back."""
    folder = data / "connections" / "1"
    found = kept(folder, "fingerprint", 1)
    if promised and promised[-1] == "forgotten":
        return "it is back" if (folder / FILE).exists() else ""
    sequence = (found.sequence or 0) if found else 0
    # It may have been given up just now: nothing comes after.
    given_up = len(promised) == 2 and found is None
    return "" if given_up or sequence >= max(map(int, promised), default=0) else f"resumed at {sequence}"


def identity(data: Path, promised: Sequence[str]) -> str:
    """The certificate that peers trust is ours, or the one that was being switched to."""
    if not promised:
        return ""
    mine = Own(data / "connections" / "1", URI, "plant")
    mine.use()
    found = mine.shown()[0].certificate.fingerprint
    allowed = promised[-1:] if len(promised) == 3 else [promised[0]]
    if len(promised) == 2 and found not in allowed:
        # The switch was under way.
        return "" if len(mine.shown()) == 1 else "a third one"
    return "" if found in allowed else f"{found} is not {allowed}"


def trust(data: Path, promised: Sequence[str]) -> str:
    """What a person decided holds, or what he was deciding."""
    order = ("pending", "trusted", "rejected")
    states = [one.state for one in Inbox(data / "connections" / "1", ()).peers()]
    decided = promised[-1].split()[0] if promised else ""
    if decided in {"", "pending"}:
        return ""
    return "" if states and all(order.index(one) >= order.index(decided) for one in states) else f"it is {states}"


def backup(data: Path, promised: Sequence[str]) -> str:
    """Under its name lies a whole one."""
    path = data / "box.backup"
    if not path.exists():
        return "it is gone" if promised else ""
    size = sum(one.size for one in Reader(path).verify().parts)
    return "" if size >= max(map(int, promised), default=0) else f"an older one of {size}"


def launcher(data: Path, promised: Sequence[str]) -> str:
    """Servers start again where their clients look for them."""
    told = dict(line.split() for line in promised)
    folder = files.private_folder(data, "broker")
    with files.kept_port(folder) as port:
        other = "port" in told and not (folder / "port").read_text().startswith(told["port"])
    secret = files.kept_secret(folder / "password")
    if not secret:
        return "an empty password"
    return f"{secret=} {port.number=}" if other or told.get("secret", secret) != secret else ""


CHECKS: Final[dict[str, Check]] = {
    one.__name__: one
    for one in (journal, inherited, snapshots, database, key, models, gap, session, identity, trust, backup, launcher)
}
