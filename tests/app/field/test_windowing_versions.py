"""A new version of a pipeline beside the last one: whose windows are whose, and that none is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from app.field.snapshots import Snapshots
from app.field.windowing import Windowing
from app.pipelines.schemas import InputSpec, PipelineSpec, WindowSpec
from app.pipelines.service import Version, window_spec
from tests.app.field.test_windowing import START, _entries


@pytest.mark.parametrize("kind", ["grid", "trigger"])
def test_a_new_version_that_cuts_alike_takes_up_the_open_windows(kind: Literal["grid", "trigger"]) -> None:
    """A pipeline with another device or rule misses no window and repeats none; another window begins anew."""
    window = WindowSpec(kind=kind, step_s=1, length=3, lateness_s=0.5, trigger=9, trigger_connection=1)
    longer = WindowSpec(**{**window.model_dump(), "length": 4})
    specs = [
        PipelineSpec(
            name="p", model_digest="sha256:0", model_input="x", window=one, devices=(device,), outputs=(),
            inputs=tuple(InputSpec(tag=tag, connection=1) for tag in (1, 2)),
        )
        for one, device in ((window, "cpu"), (window, "simnpu"), (longer, "simnpu"))
    ]
    known = {key: Version(key, 1, "p", key, spec, window_spec(spec)) for key, spec in enumerate(specs, 1)}

    def ends(switches: dict[int, tuple[int, ...]]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        windowing = Windowing()
        windowing.start(START, START, Snapshots(Path("none")), known)
        for entry in _entries(60, switches):
            if entry.versions is not None:
                windowing.switch(entry.position, entry.versions, known)
            for block in windowing.feed(entry):
                found.setdefault(block.version_id, []).extend(np.frombuffer(block.end_time, "<i8").tolist())
                assert np.frombuffer(block.sequence, "<i8")[-1] == len(found[block.version_id])
        return found

    whole, parted, other = ends({1: (1,)}), ends({1: (1,), 31: (2,)}), ends({1: (1,), 31: (3,)})
    assert parted[1] + parted[2] == whole[1]
    assert len(parted[2]) > 3
    assert kind == "trigger" or len(other[1] + other[3]) < len(whole[1]), "four rows of its own come first"
