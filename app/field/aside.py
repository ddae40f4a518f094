"""A sink on an event loop of its own, so that a peer whose library works long holds up neither the field nor others."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from connectors import Publication, Sink

Answer = TypeVar("Answer")


class AsideSink:
    """The same sink, run in a thread. Starting an OPC UA server takes seconds of work in its loop.

    The thread is made with the first call and ends with `leave`; a cancelled call is cancelled in the thread too.
    """

    def __init__(self, sink: Sink, name: str) -> None:
        """`name`: of the thread, for whoever looks at the process."""
        self.inner = sink
        """What runs in the thread; only what blocks and waits for nothing may be called on it from elsewhere."""
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def connect(self) -> None:
        """See `connectors.Sink`."""
        await self._call(self.inner.connect())

    async def publish(self, items: Sequence[Publication]) -> None:
        """See `connectors.Sink`."""
        await self._call(self.inner.publish(items))

    async def close(self) -> None:
        """See `connectors.Sink`."""
        await self._call(self.inner.close())

    def leave(self) -> None:
        """End the thread: blocking, for as long as the call in work takes to be cancelled. Safe to call twice."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    async def _call(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._started()))

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(loop,), name=self._name, daemon=True)
            self._thread.start()
            self._loop = loop
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped, then cancel what is left in it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
