"""Programs whose power is cut: each writes with the product's own code, and says what it was promised when it was."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from app.journal import Journal
from app.records import Record
from tests.chaos.recorded import SAID


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


async def _journal(folder: Path, said: Promises) -> None:
    number = 0
    for opening in range(3):
        journal = Journal(
            folder / "data" / "journal", "test", commit_interval_s=0.001, budget=2**26, segment_s=0.0, counts_s=0.0
        )
        said.say("epoch", journal.epoch)
        for _ in range(3):
            made = [record(number + i) for i in range(2)]
            number += 2
            for one, at in zip(made, await asyncio.gather(*map(journal.append, made)), strict=True):
                said.say("record", *at, one.received_time)
        if opening == 1:
            await asyncio.to_thread(journal.drop, journal.first, "journal_full")
            said.say("dropped", journal.dropped_readings)
        await asyncio.to_thread(journal.close)


def journal(folder: Path, said: Promises) -> None:
    """Opened three times, a segment for each group, one of them dropped."""
    asyncio.run(_journal(folder, said))


PROGRAMS: dict[str, Callable[[Path, Promises], None]] = {one.__name__: one for one in (journal,)}

if __name__ == "__main__":
    PROGRAMS[sys.argv[2]](Path(sys.argv[1]), Promises(Path(sys.argv[1])))
