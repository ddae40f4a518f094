"""A process that journals as fast as it can and says on standard output what is durable: to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from app.journal import Journal
from app.records import Record


def record(connection: int, number: int, size: int) -> Record:
    """A record of one reading whose content can be told from its number."""
    return Record(connection, 1, number, 0, 1, number, number, 0, (), number.to_bytes(8, "little") * (size // 8))


async def _append(journal: Journal, connection: int, size: int) -> None:
    number = 0
    while True:
        number += 1
        at = await journal.append(record(connection, number, size))
        sys.stdout.write(f"{at.epoch} {at.number} {connection} {number}\n")
        sys.stdout.flush()


async def _main(folder: str, size: int) -> None:
    journal = Journal(Path(folder), "test", commit_interval_s=0.002, budget=256 * 2**20)
    await asyncio.gather(*(_append(journal, connection, size) for connection in (1, 2, 3)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
