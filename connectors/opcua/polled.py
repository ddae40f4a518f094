"""What was read last of every node, and which of what is read now is a change (IEC 62541-4, 7.22.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from asyncua import ua

from connectors.opcua.decode import Changes

UNREAD: Final = 255
"""A kind that no value has."""

Items = Mapping[int, tuple[ua.NodeId, ua.MonitoringParameters]]
"""Client handle -> node, and how its value is compared."""


class Scan:
    """All nodes in the order in which they are read. A change is what a server with subscriptions would report."""

    def __init__(self, items: Items, before: Scan | None) -> None:
        """What is known from `before` of handles that stay is kept: they are not told again."""
        self.nodes = [node for node, _ in items.values()]
        n = len(items)
        self._handles = np.fromiter(items, dtype=np.uint32, count=n)
        filters = [parameters.Filter for _, parameters in items.values()]
        by_time = ua.DataChangeTrigger.StatusValueTimestamp
        self._by_time = np.array([f is not None and f.Trigger == by_time for f in filters], dtype=bool)
        self._deadband = np.array([_deadband(f) for f in filters], dtype=np.float64)
        self._kinds = np.full(n, UNREAD, dtype=np.uint8)
        self._values, self._times = np.full(n, np.nan), np.zeros(n, dtype=np.int64)
        self._status = np.zeros(n, dtype=np.uint32)
        self._others: dict[int, object] = {}
        if before is not None:
            self._take_over(before)

    def _take_over(self, before: Scan) -> None:
        rows = {int(handle): row for row, handle in enumerate(before._handles.tolist())}
        for row, handle in enumerate(self._handles.tolist()):
            old = rows.get(handle)
            if old is not None:
                self._kinds[row], self._values[row] = before._kinds[old], before._values[old]
                self._times[row], self._status[row] = before._times[old], before._status[old]
                if old in before._others:
                    self._others[row] = before._others[old]

    def changed(self, start: int, found: Changes) -> Changes:
        """Those of the values of the nodes from `start` on that are changes, under their handles."""
        n = len(found.handles)
        rows = slice(start, start + n)
        with np.errstate(invalid="ignore"):
            moved = np.abs(found.values - self._values[rows]) > self._deadband[rows]
        moved |= np.isnan(found.values) != np.isnan(self._values[rows])
        news = (found.status != self._status[rows]) | (found.kinds != self._kinds[rows]) | moved
        news |= self._by_time[rows] & (found.source_time != self._times[rows])
        for row in found.others.keys() | {row - start for row in self._others if start <= row < start + n}:
            news[row] |= not _same(found.others.get(row), self._others.get(start + row))
        keep = np.flatnonzero(news)
        self._remember(start, found, keep)
        others = {new: found.others[old] for new, old in enumerate(keep.tolist()) if old in found.others}
        return Changes(
            self._handles[rows][keep],
            found.values[keep],
            found.status[keep],
            found.source_time[keep],
            found.kinds[keep],
            others,
        )

    def _remember(self, start: int, found: Changes, keep: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
        """What was told: a deadband is measured from there."""
        at = start + keep
        self._values[at], self._status[at] = found.values[keep], found.status[keep]
        self._times[at], self._kinds[at] = found.source_time[keep], found.kinds[keep]
        for row in keep.tolist():
            self._others.pop(start + row, None)
            if row in found.others:
                self._others[start + row] = found.others[row]


def _deadband(wanted: object) -> float:
    absolute = isinstance(wanted, ua.DataChangeFilter) and wanted.DeadbandType == ua.DeadbandType.Absolute
    return float(wanted.DeadbandValue) if absolute and isinstance(wanted, ua.DataChangeFilter) else 0.0


def _same(one: object, other: object) -> bool:
    """Whether two values are the same, arrays element by element."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return type(one) is type(other) and one == other
