"""Monitored items to readings: permanent tag ids, the declared type held, the rest refused and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from connectors import Refusal, TagBinding
from connectors.opcua.decode import ARRAY, NOTHING, TYPE_BITS, Changes
from connectors.opcua.variant import NOT_UTF_8, TOO_LARGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERFLOW: Final = 0x480
"""InfoType DataValue with the overflow bit (IEC 62541-4, table 174): the server dropped older values of this item."""
INTEGERS: Final = frozenset(range(2, 10))
REALS: Final = frozenset({10, 11})
BOOLEAN: Final = 1
DATE_TIME: Final = 13
TEXTS: Final = frozenset({12, 14, 15, 16, 17, 18, 20, 21})
SCALARS: Final[dict[str, frozenset[int]]] = {
    "float": INTEGERS | REALS,
    "integer": INTEGERS | {DATE_TIME, 19},
    "boolean": frozenset({BOOLEAN}),
    "string": TEXTS,
    "array": frozenset(),
    "any": frozenset(range(1, 26)),
}
"""Which built-in types (IEC 62541-6, table 1) a tag of each datatype takes as a scalar."""
ARRAYS: Final = frozenset({"array", "any"})
DATATYPES: Final = tuple(SCALARS)
NAMES: Final = (
    "nothing",
    "Boolean",
    "SByte",
    "Byte",
    "Int16",
    "UInt16",
    "Int32",
    "UInt32",
    "Int64",
    "UInt64",
    "Float",
    "Double",
    "String",
    "DateTime",
    "Guid",
    "ByteString",
    "XmlElement",
    "NodeId",
    "ExpandedNodeId",
    "StatusCode",
    "QualifiedName",
    "LocalizedText",
    "ExtensionObject",
    "DataValue",
    "Variant",
    "DiagnosticInfo",
)
BAD: Final = 2
"""Severity, the top two bits of a StatusCode."""
TAKEN, WRONG_TYPE, NOT_FINITE, MISSING, UNKNOWN, CHARSET, SIZE, GONE = range(8)
REASONS: Final = (
    "", "wrong_type", "not_finite", "missing_value", "unknown_handle", "wrong_charset", "too_large",
)  # fmt: skip


def _accepted() -> NDArray[np.bool_]:
    """Whether a tag takes a value, by its datatype and the kind of the value; shape (datatypes, 256)."""
    table = np.zeros((len(DATATYPES), 256), dtype=bool)
    for row, datatype in enumerate(DATATYPES):
        table[row, [NOTHING, *SCALARS[datatype]]] = True
        if datatype in ARRAYS:
            table[row, ARRAY:] = True
    return table


ACCEPTED: Final = _accepted()


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings in columns, and what did not become one."""

    tags: NDArray[np.int64]
    source_time: NDArray[np.int64]
    values: NDArray[np.float64]
    others: dict[int, object]
    status: NDArray[np.uint32]
    refused: tuple[Refusal, ...]
    lost: int


def joined(parts: Sequence[Changes]) -> Changes:
    """Several notifications as one, in order of arrival."""
    if len(parts) == 1:
        return parts[0]
    others: dict[int, object] = {}
    start = 0
    for part in parts:
        others.update((start + row, value) for row, value in part.others.items())
        start += len(part.handles)
    return Changes(
        np.concatenate([p.handles for p in parts]),
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.status for p in parts]),
        np.concatenate([p.source_time for p in parts]),
        np.concatenate([p.kinds for p in parts]),
        others,
    )


class Table:
    """What is needed per client handle."""

    def __init__(self, tags: Mapping[int, TagBinding], given: int) -> None:
        """`tags` by their client handles; `given`: handles below it that stand for no tag did so once."""
        self._tags = dict(tags)
        handles = np.fromiter(self._tags, dtype=np.int64, count=len(self._tags))
        self._ids = np.zeros(given, dtype=np.int64)
        self._ids[handles] = [tag.id for tag in self._tags.values()]
        self._types = np.zeros(given, dtype=np.uint8)
        self._types[handles] = [DATATYPES.index(tag.datatype) for tag in self._tags.values()]
        self._gone = np.ones(given, dtype=bool)
        self._gone[handles] = False
        self._some_gone = bool(self._gone.any())

    def columns(self, changes: Changes) -> Columns:
        """Readings for these items; those of a wrong type, without a number or of no tag are refused.

        What still comes for a tag that was taken away is passed over.
        """
        verdict = self._judge(changes)
        refused = self._refusals(changes, verdict) if verdict.any() else ()
        lost = int(np.count_nonzero(((changes.status & OVERFLOW) == OVERFLOW) & (verdict != GONE)))
        if not verdict.any():
            tags = self._ids[changes.handles]
            return Columns(tags, changes.source_time, changes.values, changes.others, changes.status, (), lost)
        keep = np.flatnonzero(verdict == TAKEN)
        others = {new: changes.others[old] for new, old in enumerate(keep.tolist()) if old in changes.others}
        columns = (changes.source_time[keep], changes.values[keep], others, changes.status[keep])
        return Columns(self._ids[changes.handles[keep]], *columns, refused, lost)

    def _judge(self, changes: Changes) -> NDArray[np.uint8]:
        """One of TAKEN … GONE per row. A Bad reading needs no value; any other needs a finite one."""
        known = changes.handles < len(self._ids)
        handles = np.where(known, changes.handles, 0)
        verdict = np.zeros(len(handles), dtype=np.uint8)
        needs_value = np.minimum(changes.status >> 30, BAD) != BAD
        if not np.isfinite(changes.values).all():
            odd = ~np.isfinite(changes.values)
            odd[list(changes.others)] = False
            verdict[odd & needs_value] = NOT_FINITE
            verdict[(changes.kinds == NOTHING) & needs_value] = MISSING
        if len(self._ids):
            verdict[~ACCEPTED[self._types[handles], changes.kinds]] = WRONG_TYPE
        if changes.others:
            verdict[changes.kinds == NOT_UTF_8] = CHARSET
            verdict[changes.kinds == TOO_LARGE] = SIZE
        if self._some_gone:
            verdict[self._gone[handles]] = GONE
        verdict[~known] = UNKNOWN
        return verdict

    def _refusals(self, changes: Changes, verdict: NDArray[np.uint8]) -> tuple[Refusal, ...]:
        """One per tag and reason, with the number of readings."""
        rows = np.flatnonzero((verdict != TAKEN) & (verdict != GONE)).tolist()
        counted: dict[tuple[int, int, int], list[int]] = {}
        for row in rows:
            key = (int(changes.handles[row]), int(verdict[row]), int(changes.kinds[row]))
            counted.setdefault(key, []).append(row)
        return tuple(self._refusal(*key, changes, found) for key, found in counted.items())

    def _refusal(self, handle: int, verdict: int, kind: int, changes: Changes, rows: list[int]) -> Refusal:
        shown = repr(changes.others.get(rows[-1], float(changes.values[rows[-1]]))).encode()[:256]
        if verdict == UNKNOWN:
            return Refusal(
                f"handle {handle}",
                REASONS[verdict],
                "the server sent an item that was never asked for",
                shown,
                len(rows),
            )
        tag = self._tags[handle]
        name = NAMES[min(kind & TYPE_BITS, len(NAMES) - 1)] + (" array" if kind & ARRAY else "")
        detail = {
            CHARSET: "the server sends a text that is not UTF-8 (IEC 62541-6, 5.2.2.4): correct it there",
            SIZE: "the server sends a value that is larger than 4 MiB",
            WRONG_TYPE: f"the server sends {name}, the tag is configured as {tag.datatype}: change the tag's datatype",
            NOT_FINITE: "the server sends NaN or infinity with a status that is not Bad",
            MISSING: "the server sends no value with a status that is not Bad",
        }[verdict]
        return Refusal(tag.address, REASONS[verdict], detail, shown, len(rows))
