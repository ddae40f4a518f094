"""Programs whose power is cut: each writes with the product's own code, and says what it was promised when it was."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from asyncua import ua
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import text

from app.access.seal import seal
from app.backup.archive import VERSION, Header, Writer
from app.commands.conform_report import own_key
from app.db import make_engine, noting, writing
from app.durable import make_folder
from app.field.snapshots import VERSION as OF_SNAPSHOT
from app.field.snapshots import Snapshot, Snapshots
from app.journal import Journal, Position
from app.journal.frames import Kind, Meta, frame, record_payload
from app.launcher import files
from app.records import Record
from app.settings import Settings, use
from connectors._continuity import Continuity
from connectors.opcua import certificates, own
from connectors.opcua.inbox import Inbox, UnknownPeerError
from connectors.opcua.resume import Handles, Kept, forget, keep
from connectors.opcua.revised import Revised
from examples.acceptance import model
from inference.model import import_model
from tests.chaos.recorded import SAID

DATA: Final = "data"
URI: Final = "urn:headrace:power"
FIRST: Final = 4
"""So many batches come before any note, which sets anew how the connection waits for the disk."""


class Promises:
    """The file of what was promised."""

    def __init__(self, folder: Path) -> None:
        """Makes it."""
        self._file = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, *words: object) -> None:
        """One more, which is true from here on."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def record(number: int) -> Record:
    """One reading, whose content can be told from its number."""
    return Record(1 + number % 2, 1, number, 0, 1, number, number, 0, (), number.to_bytes(8, "little") * 40)


def journal_of(data: Path) -> Journal:
    """The journal of a box, with a segment for each group."""
    return Journal(data / "journal" / "g", "g", commit_interval_s=0.001, budget=2**26, segment_s=0.0, counts_s=0.0)


async def _journal(data: Path, said: Promises) -> None:
    number = 0
    for opening in range(3):
        journal = journal_of(data)
        said.say("epoch", journal.epoch)
        for _ in range(3):
            made = [record(number + i) for i in range(2)]
            number += 2
            for one, at in zip(made, await asyncio.gather(*map(journal.append, made)), strict=True):
                said.say("record", *at, one.received_time)
        if opening == 1:
            await asyncio.to_thread(journal.drop, journal.first, "journal_full")
        await asyncio.to_thread(journal.close)


def journal(data: Path, said: Promises) -> None:
    """Opened three times, a segment for each group, one of them dropped."""
    asyncio.run(_journal(data, said))


async def _inherited(data: Path, said: Promises) -> None:
    for opening in range(3):
        journal = journal_of(data)
        said.say("epoch", journal.epoch)
        for entry in journal.read_after(Position(0, 0), records=1000):
            if entry.record is not None:
                said.say("record", *entry.position, entry.record.received_time)
        made = [record(10 * opening + i) for i in range(3)]
        for one in made[:2]:
            said.say("record", *await journal.append(one), one.received_time)
        await asyncio.to_thread(journal.close)
        newest = max((data / "journal" / "g").glob("*.hrj"))
        meta = Meta(Kind.RECORD, Position(journal.epoch, 3), made[2].connection, 2 * (opening + 1), 1)
        fd = os.open(newest, os.O_WRONLY | os.O_APPEND)
        os.write(fd, frame(meta, record_payload(made[2])))
        os.close(fd)


def inherited(data: Path, said: Promises) -> None:
    """Each time the one before was killed after its last write and before its fsync; what is read counts as durable."""
    asyncio.run(_inherited(data, said))


def snapshots(data: Path, said: Promises) -> None:
    """Checkpoints of the windows; older ones leave."""
    kept = Snapshots(data / "journal" / "g" / "snapshots")
    for number in (3, 7, 9):
        kept.save(Snapshot(OF_SNAPSHOT, 1, number, (1,), bytes(600), 0, ()))
        said.say(number)
        kept.drop_before(Position(1, number))


def database(data: Path, said: Promises) -> None:
    """Batches, one in each transaction, later with notes between them that wait for no disk, and checkpoints."""
    make_folder(data)
    engine = make_engine(f"sqlite:///{data / 'headrace.db'}")
    with writing(engine) as session:
        session.execute(text("CREATE TABLE batch (number INTEGER PRIMARY KEY, content BLOB)"))
        session.execute(text("CREATE TABLE note (number INTEGER)"))
    for number in range(1, 9):
        if number > FIRST:
            with noting(engine) as session:
                session.execute(text("INSERT INTO note VALUES (:n)"), {"n": number})
        with writing(engine) as session:
            session.execute(text("INSERT INTO batch VALUES (:n, :c)"), {"n": number, "c": bytes([number]) * 3000})
        said.say(number)
        if number in (3, 6):
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(RESTART)")
    engine.dispose()


def key(data: Path, said: Promises) -> None:
    """Something is sealed that must be opened later, and something signed."""
    use(Settings(data_dir=data, secret_key=None))
    said.say(json.dumps(seal("open sesame")))
    said.say(own_key(data / "conform.key", make=True).public_key().public_bytes_raw().hex())


def models(data: Path, said: Promises) -> None:
    """Two models come into the store."""
    for columns in (1, 2):
        file = data.parent / "model.onnx"
        model.write(file, columns)
        said.say(import_model(file, data / "models").digest)


def gap(data: Path, said: Promises) -> None:
    """A peer is asked, and did not take up where it ended last; nobody has been told yet, then somebody has."""
    for _ in range(2):
        continuity = Continuity(str(data / "connections" / "1"))
        continuity.asks()
        said.say("asked")
        continuity.connected(took_up=False)
        said.say("untold")
        continuity.say()
        said.say("telling")
        continuity.told()


def session(data: Path, said: Promises) -> None:
    """An OPC UA session that can be resumed, again and again, until it is given up."""
    folder = data / "connections" / "1"
    for sequence in (4, 9):
        handles = Handles((0,), 1, {0: 7}, {})
        keep(folder, "fingerprint", Kept(ua.NodeId.from_string("i=5"), b"n", 3, 10.0, handles, Revised(), sequence))
        said.say(sequence)
    forget(folder)
    said.say("forgotten")


def identity(data: Path, said: Promises) -> None:
    """Our own certificate, and the switch to the next one."""
    mine = own.Own(data / "connections" / "1", URI, "plant")
    mine.use()
    said.say(mine.shown()[0].certificate.fingerprint)
    other = own.Own(data / "connections" / "1", f"{URI}:2", "plant")
    other.tend()
    said.say(other.shown()[0].certificate.fingerprint)
    said.say(other.switch().certificate.fingerprint)


def trust(data: Path, said: Promises) -> None:
    """A person accepts a peer's certificate, and rejects it later."""
    folder = data / "connections" / "1"
    own.make(data.parent / "peer", URI)
    (der,) = certificates.of_file(data.parent / "peer" / own.CERTIFICATE)
    inbox = Inbox(folder, ())
    try:
        inbox.check(der.public_bytes(Encoding.DER))
    except UnknownPeerError as unknown:
        said.say("pending", unknown.fingerprint)
        for state in ("trusted", "rejected"):
            inbox.decide(unknown.fingerprint, state)
            said.say(state, unknown.fingerprint)


def backup(data: Path, said: Promises) -> None:
    """A backup, and another in its place."""
    make_folder(data)
    for size in (100, 3000):
        with Writer.to(data / "box.backup", Header(VERSION, 0, "0", "0", {}, history=False)) as writer:
            writer.add("part", os.urandom(size))
        said.say(size)


def launcher(data: Path, said: Promises) -> None:
    """What a server of the box is known by: its port and its password."""
    folder = files.private_folder(data, "broker")
    said.say("secret", files.kept_secret(folder / "password"))
    port = files.kept_port(folder)
    said.say("port", port.number)
    port.close()


PROGRAMS: Final[dict[str, Callable[[Path, Promises], None]]] = {
    one.__name__: one
    for one in (journal, inherited, snapshots, database, key, models, gap, session, identity, trust, backup, launcher)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[2]](Path(sys.argv[1]) / DATA, Promises(Path(sys.argv[1])))
