"""Who reads the past beside people, gets the same answer from chunks as from batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.backfill.queries import past as past_of
from app.field.filling import _known
from app.history.service import compact, merge
from app.sources.service import running
from connectors import NO_TIME
from inference.window import Input, Spec
from tests.app.works import SECOND, START

if TYPE_CHECKING:
    from app.recomputing import Past as Read
    from tests.app.history.past import Past


def spec(*, received: bool) -> Spec:
    """Windows of four seconds over both tags."""
    inputs = tuple(Input(tag, 1, use_received_time=received) for tag in (1, 3))
    return Spec("grid", inputs, SECOND, length=4, hop=1, lateness_ns=0)


def told(read: Read) -> dict[int, list[tuple[int, int, str]]]:
    """Per tag each reading in its order, so that it can be compared; between tags of one time there is no order."""
    found: dict[int, list[tuple[int, int, str]]] = {1: [], 3: []}
    columns = (read.tags, read.time, read.status, read.values)
    for row, (tag, time, status, value) in enumerate(zip(*(one.tolist() for one in columns), strict=True)):
        found[tag].append((time, status, repr(read.others.get(row, value))))
    return found


@pytest.mark.parametrize("received", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_windows_are_computed_again_from_the_same_readings(past: Past, seed: int, received: bool) -> None:  # noqa: FBT001
    """What lies in the windows and what was in force before them; late, odd, filled and untimed ones in between."""
    past.random(seed, 50)
    first, last = START + 25 * SECOND, START + 40 * SECOND
    before = told(past_of(past.works.engine, spec(received=received), 0, first, last))
    past.applied()
    while compact(past.works.engine, most=60).batches:
        pass
    assert told(past_of(past.works.engine, spec(received=received), 0, first, last)) == before
    while merge(past.works.engine, together=2).chunks:
        pass
    assert told(past_of(past.works.engine, spec(received=received), 0, first, last)) == before


def test_a_filling_knows_what_is_there(past: Past) -> None:
    """What a peer's history brings again is told from what is new, also in chunks."""
    past.random(4, 30)
    span = START - 300 * SECOND, START + 300 * SECOND
    before = _known(past.works.engine, 1, *span)
    past.applied()
    compact(past.works.engine)
    after = _known(past.works.engine, 1, *span)
    assert len(before)
    np.testing.assert_array_equal(after, before)


def test_a_journal_that_begins_anew_learns_since_when_changes_may_be_missing(past: Past) -> None:
    """From the newest batch, also when that has been compacted; what filled a gap is no sign of life."""
    past.store([(1, 0, 1.0, 0)], 5 * SECOND)
    past.store([(1, SECOND, 1.0, 0), (3, NO_TIME, 2.0, 0)], 9 * SECOND)
    past.store([(1, 2 * SECOND, 1.0, 0)], 20 * SECOND, gap=7)
    assert running(past.works.engine, Path())[1].stored_until == START + 9 * SECOND
    past.applied()
    assert compact(past.works.engine).batches == 3
    assert running(past.works.engine, Path())[1].stored_until == START + 9 * SECOND
