"""The plant's analysers on MQTT: one JSON message per analysis of one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from examples.broker import Broker, Publisher
from examples.tep.tags import MOL_PERCENT, Analyser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.ownlog import OwnLog

TOPIC: Final = "plant/tep/analyser"
WORDS: Final = ("Good", "Uncertain", "Bad")


class AnalyserPublisher:
    """Publishes analyses under `plant/tep/analyser/NAME`."""

    def __init__(self, broker: Broker, name: str, log: OwnLog) -> None:
        """Starts to connect at once; the broker may come later. `name` tells this plant from others at the broker."""
        self._publisher = Publisher(broker, f"tep-analysers-{name}")
        self._log = log
        self._sequence: dict[str, int] = {}

    def publish(self, analyser: Analyser, values: Sequence[float], status: int, time_ns: int) -> None:
        """Publish one analysis, in mol %; a Bad one carries null for every component."""
        word = WORDS[status >> 30]
        shown = {t.name: None if word == "Bad" else v for t, v in zip(analyser.tags, values, strict=True)}
        number = self._sequence[analyser.name] = self._sequence.get(analyser.name, 0) + 1
        message = {
            "t": time_ns // 1_000_000,
            "analyser": analyser.name,
            "seq": number,
            "unit": MOL_PERCENT.text,
            "quality": word,
            "status": status,
            "values": shown,
        }
        if self._publisher.send(f"{TOPIC}/{analyser.name}", message):
            for name, value in shown.items():
                self._log.write(name, time_ns, value, status)

    async def close(self) -> None:
        """Hand over what is on its way, then disconnect."""
        await self._publisher.close()
