"""A plant's own log: every value it has published, so that what arrived elsewhere can be held against it.

The file `log.csv` is append-only UTF-8 text, one line per value: `tag,source_time_ns,value,status`.
`source_time_ns` is ns since 1970 UTC, `status` the OPC UA StatusCode as a decimal integer, `value` is JSON:
a number, `true`, `false`, a quoted string, or `null` where the status is Bad and there is no value. Since a quoted
string may hold commas, a line is split at its first two commas and its last one.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

Scalar = float | int | bool | str | None
Entry = tuple[int, Scalar, int]
"""Source time in ns, value, status."""

FILE_NAME: Final = "log.csv"


def stamp() -> int:
    """The present time as the example plants stamp their values: ns since 1970 UTC, of whole milliseconds."""
    return time.time_ns() // 1_000_000 * 1_000_000


class OwnLog:
    """Appends published values to `log.csv` in a folder; without a folder it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        """Opens the file, makes the folder where it does not stand. Raises OSError."""
        self._file = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / FILE_NAME).open("a", encoding="utf-8")

    def write(self, tag: str, source_time: int, value: Scalar, status: int) -> None:
        """Note one published value."""
        if self._file is not None:
            self._file.write(f"{tag},{source_time},{json.dumps(value)},{status}\n")

    def flush(self) -> None:
        """Hand what was noted to the operating system, so that a reader sees it even if we are killed."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        """The log, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def read_log(path: Path) -> dict[str, list[Entry]]:
    """Every value in the log, by tag, in the order published. `path` is the file or its folder.

    A last line without its end, as a killed plant leaves it, is not counted. Raises OSError, ValueError.
    """
    file = path / FILE_NAME if path.is_dir() else path
    values: dict[str, list[Entry]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        tag, source_time, rest = line.split(",", 2)
        value, status = rest.rsplit(",", 1)
        values[tag].append((int(source_time), json.loads(value), int(status)))
    return dict(values)
