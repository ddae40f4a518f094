"""A changed plant file takes over while everything runs, and touches nothing it does not change."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from app.launcher.stack import SOURCE
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.box import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE_MORE = '  - {name: yard_extra, connection: yard, unit: m, address: "yard/extra#/level"}\n'


async def apply(box: Box, file: Path) -> dict[str, Any]:
    """What `headrace apply` says, run in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "app.cli", "apply", str(file), "--json", "--yes"),
        env={**os.environ, **box.variables, "HEADRACE_DATA_DIR": str(box.data), "PYTHONPATH": str(SOURCE)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, (said + complained).decode()
    found: dict[str, Any] = json.loads(said)
    return found


async def test_only_what_changed_is_touched_and_a_second_apply_changes_nothing(box: Box) -> None:
    """A new limit is a new version of that pipeline; a new tag joins its connection; all else runs on."""
    await wait_for(lambda: box.items("/predictions", pipeline="tep-faults"), 60, "a first prediction")
    await wait_for(lambda: box.items("/predictions", pipeline="tightening"), 60, "a first unit")
    before = {one["name"]: one for one in await box.get("/connections")}
    old = (await box.items("/predictions", pipeline="tep-faults"))[0]["version"]
    other = (await box.items("/predictions", pipeline="tightening"))[0]["version"]
    ups, applied = box.logged("connection_up"), box.logged("configuration_applied")
    text = box.plant.read_text(encoding="utf-8")
    rule = "- name: plant-fault\n        output: score\n        above: 1.0"
    assert text.count(rule) == text.count("\nmodels:\n") == 1
    changed = text.replace(rule, rule.replace("1.0", "1.25")).replace("\nmodels:\n", f"{ONE_MORE}\nmodels:\n")
    file = box.data / "changed.yaml"
    file.write_text(changed, encoding="utf-8")

    said = await apply(box, file)
    assert {(one["kind"], one["name"], one["what"]) for one in said["changes"]} == {
        ("tag", "yard_extra", "added"),
        ("pipeline", "tep-faults", "changed"),
    }
    again = await apply(box, file)
    assert (again["revision"], again["changes"]) == (said["revision"], [])

    await wait_for(lambda: len(box.logged("configuration_applied")) > len(applied), 20, "the gateway follows")
    (line,) = box.logged("configuration_applied")[len(applied) :]
    assert f"rebound=1 revision={said['revision']} started=0 stopped=0" in line
    assert [one.split("connection=")[1].split()[0] for one in box.logged("connection_rebound")] == ["yard"]
    assert box.logged("connection_up") == ups
    after = {one["name"]: one for one in await box.get("/connections")}
    assert {name for name in after if after[name]["revision"] != before[name]["revision"]} == {"yard"}

    async def newest(pipeline: str) -> dict[str, Any]:
        return (await box.items("/predictions", pipeline=pipeline))[0]

    async def of_new_version() -> bool:
        return bool((await newest("tep-faults"))["version"] == old + 1)

    await wait_for(of_new_version, 60, "a prediction of the new version")
    assert (await newest("tightening"))["version"] == other
    ends = [one["passport"]["end"] for one in await box.items("/predictions", pipeline="tep-faults")]
    assert len(ends) == len(set(ends))

    back = await apply(box, box.plant)
    assert back["revision"] == said["revision"] + 1
    assert {(one["kind"], one["what"]) for one in back["changes"]} == {("tag", "removed"), ("pipeline", "changed")}
