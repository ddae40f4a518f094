"""What of a pipeline depends on the windows before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.plant.schemas import PipelineEntry


def memories(entry: PipelineEntry) -> Iterator[str]:
    """What of a pipeline depends on the windows before."""
    for rule in entry.rules:
        delays = {"on_delay": rule.on_delay > 1, "off_delay": rule.off_delay > 1, "clear": rule.clear is not None}
        what = [name for name, has in delays.items() if has]
        if what:
            yield f"{rule.name} ({', '.join(what)})"
    if entry.context:
        yield f"context ({', '.join(sorted(entry.context))})"
    if entry.inputs.state:
        yield f"state ({', '.join(sorted(entry.inputs.state))})"
