"""Which place in the plant readings count for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.places import MOST, Places, cut
from app.records import Record, to_record
from connectors import Batch, Refusal

LEVEL = st.sampled_from("abcdef")
PATHS = st.lists(st.lists(LEVEL, min_size=1, max_size=4).map("/".join), max_size=60)
THREE = Places(np.array([3, 5, 8]), np.array([1, 1, 2]), {"ns=2;s=P": 1, "ns=2;s=T": 2})


def batch(*tags: int, refused: tuple[Refusal, ...] = ()) -> Batch:
    """One reading of each."""
    n = len(tags)
    return Batch(
        np.array(tags, np.int64), np.arange(n), np.zeros(n), {}, np.zeros(n, np.uint32), 100, 0, 1, refused=refused
    )


def record(*tags: int, refused: tuple[Refusal, ...] = ()) -> Record:
    """The same as it is journaled."""
    return to_record(7, batch(*tags, refused=refused), places=THREE)


@given(PATHS)
def test_places_stay_few_and_as_deep_as_they_can(paths: list[str]) -> None:
    """Each path begins with its place; one more level for all of them would be too many."""
    found = cut(paths, 5)
    assert set(found) == set(paths)
    assert len(set(found.values())) <= 5
    levels = max((place.count("/") + 1 for place in found.values() if place), default=0)
    for path, place in found.items():
        assert place == "/".join(path.split("/")[:levels])
    deeper = {"/".join(path.split("/")[: levels + 1]) for path in paths}
    assert len(deeper) > 5 or deeper == set(found.values()) - {""}


def test_more_places_than_can_be_told_apart_are_one() -> None:
    """Where even the first level has too many, the connection's sums are all there is; as many as may be are kept."""
    assert set(cut(f"{i}/x" for i in range(MOST + 1)).values()) == {""}
    assert len(set(cut(f"{i}/x" for i in range(MOST)).values())) == MOST


def test_tags_without_a_place_belong_to_none() -> None:
    """Neither they nor tags that nobody knows are in the sums."""
    assert cut(["", "a"]) == {"a": "a"}
    assert THREE.count(np.array([9, 3, 5, 3, 4, 8, 1])) == ((1, 3), (2, 1))
    assert THREE.count(np.array([9])) == ()
    assert Places().count(np.array([3])) == ()


def test_a_record_says_what_belongs_where() -> None:
    """What was read and what was refused at a place count for it; what is left over belongs to none."""
    refused = (Refusal("ns=2;s=T", "wrong_type", "", b"", 4), Refusal("elsewhere", "broken_json", "", b"", 2))
    made = record(3, 8, 9, refused=refused)
    assert made.places == ((1, 1), (2, 5))
    assert made.readings() == 9
    assert [one.place for one in made.refused] == [2, 0]
    assert made.placed() == {0: 1, 1: 1, 2: 1}


def test_a_record_of_no_place_says_nothing() -> None:
    """It is the bytes it always was, and all of it belongs to none."""
    assert to_record(7, batch(3, 8)).places == ()
    assert to_record(7, batch(3, 8)).placed() == {0: 2}
