"""What a server makes of the intervals and queues we ask for (IEC 62541-4, 5.12.2 and 5.13.2), in a few sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from asyncua import ua

Answer = ua.MonitoredItemCreateResult | ua.MonitoredItemModifyResult
SLACK: Final = 1.001
"""An interval that is longer by less than this is the same one, rounded."""


@dataclass(slots=True)
class Revised:
    """Of one subscription: what is slower or smaller than asked."""

    publishing_ms: tuple[float, float] = (0.0, 0.0)
    """Asked for, and given."""
    sampling_ms: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Handle -> asked for, and given; 0 asks for the fastest, whatever that is."""
    queues: dict[int, tuple[int, int]] = field(default_factory=dict)

    def note(self, handle: int, asked: ua.MonitoringParameters, got: Answer) -> None:
        """How an item is monitored."""
        self.forget(handle)
        if 0 < asked.SamplingInterval * SLACK < got.RevisedSamplingInterval:
            self.sampling_ms[handle] = asked.SamplingInterval, got.RevisedSamplingInterval
        if got.RevisedQueueSize < asked.QueueSize:
            self.queues[handle] = int(asked.QueueSize), int(got.RevisedQueueSize)

    def sampled_s(self) -> dict[int, float]:
        """How often items are sampled, s, of those that are sampled more slowly than asked."""
        return {handle: given / 1000 for handle, (_, given) in self.sampling_ms.items()}

    def forget(self, handle: int) -> None:
        """The item is not monitored any more."""
        self.sampling_ms.pop(handle, None)
        self.queues.pop(handle, None)

    def notes(self) -> tuple[str, ...]:
        """At most one sentence each about publishing, sampling and queues, however many tags there are."""
        found: list[str] = []
        asked, given = self.publishing_ms
        if given > asked * SLACK:
            found.append(f"the server publishes every {given:g} ms, not every {asked:g} ms as asked")
        # Copied first: a note may be asked for beside the loop that changes them.
        sampling, queues = list(self.sampling_ms.values()), list(self.queues.values())
        if sampling:
            asked, given = max(sampling, key=lambda one: one[1] / one[0])
            found.append(
                f"the server samples {len(sampling)} tags more slowly than asked: "
                f"every {given:g} ms instead of {asked:g} ms at worst"
            )
        if queues:
            most, kept = min(queues, key=lambda one: one[1] / one[0])
            found.append(
                f"the server keeps fewer values of {len(queues)} tags between two publishes than asked: "
                f"{kept} instead of {most} at worst"
            )
        return tuple(found)
