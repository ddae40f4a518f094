"""What stays for ever is left alone by the collector; garbage is not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from app import longlived


class Thing:
    """May refer to itself."""

    def __init__(self) -> None:
        """A cycle: only the collector frees it."""
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Other tests have the collector as it was."""
    yield
    gc.unfreeze()


def test_what_is_there_is_left_alone_and_garbage_is_not() -> None:
    """Cycles that are garbage already go; later ones are found as before."""
    stays, goes = Thing(), weakref.ref(Thing())
    longlived.settle()
    assert goes() is None
    assert gc.get_freeze_count() > 0
    assert not any(one is stays for one in gc.get_objects())
    later = weakref.ref(Thing())
    gc.collect()
    assert later() is None


def test_what_was_replaced_since_goes_with_the_next_call() -> None:
    """A cycle that was left alone and has become garbage is not kept for ever."""
    stays = Thing()
    seen = weakref.ref(stays)
    longlived.settle()
    del stays
    gc.collect()
    assert seen() is not None
    longlived.settle()
    assert seen() is None
