"""The watchdog on data at work: asks for silent tags beside the stream, and says what has to be done about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from connectors import ConnectorError
from connectors.opcua.decode import UndecodableError
from connectors.opcua.silence import AT_ONCE, Silence, Verdict

if TYPE_CHECKING:
    from connectors.opcua.decode import Changes
    from connectors.opcua.items import Items
    from connectors.opcua.session import Session
    from connectors.opcua.silence import Held
    from connectors.opcua.subscription import Subscription

NAMED: Final = 3
"""Tags that a note names."""


class Watchdog:
    """Of one connection, from one subscription to the next. One question at a time is on its way."""

    def __init__(self, items: Items, check_s: float) -> None:
        """`check_s`: as `Silence`."""
        self._items = items
        self._check_s = check_s
        self._silence = Silence(check_s)
        self._asking: asyncio.Task[dict[int, Held | None]] | None = None
        self._asked: list[int] = []
        self._asked_at = 0.0
        self.mute: tuple[int, ...] = ()
        """Handles that have to be monitored anew."""
        self._found: dict[str, None] = {}

    def watch(self, subscription: Subscription, *, new: bool) -> None:
        """These are the items now. `new`: as `Silence.watch`."""
        monitored = subscription.monitored
        tolerances = self._items.tolerances(monitored.ids)
        self._silence.watch(tolerances, monitored.revised.sampled_s(), time.monotonic(), new=new)

    def heard(self, parts: Sequence[Changes]) -> None:
        """The server has told this."""
        now = time.monotonic()
        for part in parts:
            self._silence.heard(part, now)

    def notes(self) -> tuple[str, ...]:
        """What the operator should know, since this connection began."""
        if not self._found:
            return ()
        named = ", ".join(list(self._found)[:NAMED]) + (", …" if len(self._found) > NAMED else "")
        return (f"the server had changed {len(self._found)} tags without telling, now monitored anew: {named}",)

    def look(self, session: Session, at_once: int) -> dict[int, int]:
        """Ask for what is silent, and take the answer when it is there; does not wait. Returns the nodes that are gone.

        A question that fails is asked again: whether the connection stands is for others to say.
        """
        if self._asking is None:
            self._asked_at = time.monotonic()
            self._asked = self._silence.due(self._asked_at, min(at_once, AT_ONCE))
            if self._asked:
                self._asking = asyncio.create_task(self._items.held(session, self._asked, at_once))
            return {}
        if not self._asking.done():
            return {}
        asking, self._asking = self._asking, None
        verdict = self._verdict(asking)
        self.mute += verdict.mute
        self._found |= dict.fromkeys(self._items.addresses(verdict.mute))
        return dict(verdict.gone)

    def _verdict(self, asked: asyncio.Task[dict[int, Held | None]]) -> Verdict:
        try:
            found = asked.result()
        except (ConnectorError, UndecodableError, OSError, TimeoutError):
            found = dict.fromkeys(self._asked)
        return self._silence.judge(found, self._asked_at, time.monotonic())

    def renewed(self) -> tuple[int, ...]:
        """Those that were mute are monitored anew; returns them."""
        mute, self.mute = self.mute, ()
        self._silence.again(mute)
        return mute

    async def stop(self) -> None:
        """The subscription is over: what is known of it is forgotten."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        self._silence = Silence(self._check_s)
        self.mute = ()
        self._found.clear()
