"""An engine process, whatever its driver: what it is asked, and a session in it that is opened, run and let go of."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from inference import InferenceError, UnsupportedModelError
from inference.chip import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inference import Tensor
    from inference.adapters.remote import Engine


def told(engine: Engine, request: Mapping[str, Any]) -> dict[str, Any] | Text:
    """What an engine answers when it is asked what it has, with its `python`; or why that is not known."""
    where = engine.place.python
    lane = None
    try:
        lane = engine.lane()
        found = lane.call({"op": "runtime", **request}, engine.place.start_s)
        return {**found, "python": lane.about["python"]}
    except TimeoutError:
        if lane is not None:
            lane.kill()
        return Text(f"the engine did not say within its time what it has (interpreter {where})",
                    f"引擎未在规定时间内说明其运行时（解释器 {where}）")
    except InferenceError as error:
        return Text(f"{error} (interpreter {where})", f"{error}（解释器 {where}）")
    finally:
        if lane is not None:
            lane.close()


class Opened:
    """One call at a time."""

    def __init__(self, engine: Engine, request: Mapping[str, Any]) -> None:
        """Open it there. Raises UnsupportedModelError, DeviceLostError, BackendNotInstalledError."""
        self._lane, self._cancel = engine.lane(), engine.lane()
        self._lock = threading.Lock()
        try:
            self.told = self._lane.call({"op": "open", **request}, engine.place.open_s)
        except TimeoutError as error:
            self._lane.kill()
            self.close()
            message = f"making the model ready did not end within {engine.place.open_s:g} s; the engine was stopped"
            raise UnsupportedModelError(message) from error
        except InferenceError:
            self.close()
            raise
        self._key = self.told["session"]

    def run(self, names: Sequence[str], feeds: Mapping[str, Tensor]) -> list[Any]:
        """Every output. Raises InputError, DeviceLostError."""
        with self._lock:
            return self._lane.run(self._key, names, feeds, self._cancel)

    def close(self) -> None:
        """The engine lets go of it, too. Safe to call twice."""
        self._lane.close()
        self._cancel.close()

    def __del__(self) -> None:
        """A session that nobody holds any more is closed."""
        with suppress(AttributeError):
            self.close()
