"""A gateway and two workers with different devices, over a real Redis: work goes where the order of devices says."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import onnx
import pytest
import structlog
from sqlalchemy import select

import inference
from app import times, workers
from app.backfill.tables import RecomputeRow
from app.db import reading, upgrade, writing
from app.gateway import Gateway
from app.ledger.tables import GapRow
from app.log import MESSAGES_SENT_AGAIN, WORK_BACK, WORK_MOVED
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.queue import DEFAULT_QUEUE, HOUSEKEEPING, RECOMPUTE, Door, make_celery
from app.scoring.tables import PredictionRow
from app.settings import Settings, inherited
from app.workers import WorkerLive
from tests.app.field.doubles import SECOND, Consumer, Peer, Plug, batch
from tests.app.works import INPUTS, LENGTH, Works
from tests.inference import vulkan
from tests.inference.onnx_graphs import FLOAT, build, constant, node, value
from tests.inference.plugins import needs_compiler
from tests.waiting import wait_for

pytestmark = [needs_compiler, pytest.mark.timeout(300)]

TOP: Final = Path(__file__).parents[3]
NPU: Final = ("simnpu", "cpu")
EACH: Final = 3
"""Predictions on a device before the next step."""
AHEAD: Final = 16
"""Seconds that are fed before they are answered, at most."""
SPEC: Final[dict[str, Any]] = {
    "layout": "NC", "cells": "float32", "outputs": [{"name": "score", "tag": 2, "tag_name": "watch.score"}],
    "window": {"length": LENGTH, "lateness_s": 0.0}, "inputs": [{"tag": 1, "connection": 1, "max_gap_s": 1e6}] * INPUTS,
}  # fmt: skip


def model() -> onnx.ModelProto:
    """The mean of a window, as SimNPU can compute it; float32 [N, 8] to [N, 1]."""
    count = LENGTH * INPUTS
    x, score = value("x", FLOAT, ["N", count]), value("score", FLOAT, ["N", 1])
    return build([node("Gemm", ["x", "w"], ["score"])], [x], [score], [constant("w", [[1 / count]] * count)])


@dataclass
class Line:
    """A plant with a line that tells a reading a second, and workers beside it."""

    works: Works
    redis: str
    peer: Peer = field(default_factory=Peer)
    start: int = field(default_factory=lambda: times.now() // SECOND * SECOND + 300 * SECOND)
    fed: int = 0

    def another(self, *devices: str) -> int:
        """One more pipeline, `still`, on the same readings; its version."""
        with writing(self.works.engine) as session:
            spec = session.get_one(PipelineVersionRow, self.works.version).spec
            session.add(PipelineRow(name="still"))
            session.flush()
            row = PipelineVersionRow(
                pipeline_id=2, number=1, model_digest=self.works.model.digest, created_at=1,
                spec={**spec, "name": "still", "devices": list(devices)},
            )  # fmt: skip
            session.add(row)
            session.flush()
            session.get_one(PipelineRow, 2).active_version = row.id
            return row.id

    def feed(self, seconds: int = 1) -> None:
        """One reading a second; each but the first ones closes a window."""
        for _ in range(seconds):
            self.fed += 1
            self.peer.inbox.put_nowait(batch((1,), (float(self.fed),), at=self.start + self.fed * SECOND))

    def answers(self, version: int | None = None) -> list[PredictionRow]:
        """Predictions of a version, in their order."""
        with reading(self.works.engine) as session:
            asked = select(PredictionRow).where(PredictionRow.version_id == (version or self.works.version))
            found = list(session.scalars(asked.order_by(PredictionRow.sequence)))
            session.expunge_all()
        return found

    async def answered_on(self, device: str, version: int | None = None) -> None:
        """Feed until so many windows that close from now on were answered on this device."""
        after = self.start + self.fed * SECOND

        def enough() -> bool:
            every = self.answers(version)
            found = [one for one in every if one.end_time > after and one.device == device]
            if len(found) < EACH and self.fed - len(every) < AHEAD:
                self.feed()
            return len(found) >= EACH

        await wait_for(enough, 90, f"{EACH} answers on {device}")

    def announced(self) -> dict[int, WorkerLive]:
        """What workers say now, by process id."""
        door = Door(self.redis)
        found, unreadable = workers.read(door.read_live(workers.PREFIX))
        door.close()
        assert unreadable == 0
        return {one.pid: one for one in found}

    @contextmanager
    def worker(self, name: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """A real worker; it is killed in the end where it still runs."""
        environment = {
            **inherited(), "HEADRACE_DATA_DIR": str(self.works.folder), "HEADRACE_DATABASE_URL": self.works.url,
            "HEADRACE_REDIS_URL": self.redis,
            # Nothing is kept, so that nothing is compiled beside the work: the first answer is the device's own.
            "HEADRACE_ARTEFACTS_MB": "0", **variables,
        }  # fmt: skip
        with (self.works.folder / f"{name}.log").open("ab") as log:
            running = subprocess.Popen(
                [sys.executable, "-m", "app.worker"], cwd=TOP, env=environment, stderr=log, stdout=log,
                start_new_session=True,
            )  # fmt: skip
            try:
                yield running
            finally:
                kill(running)

    def ask_for(self, task: str, queue: str) -> None:
        """As beat does, in one queue."""
        app = make_celery(self.redis, queue)
        app.send_task(task, queue=queue, ignore_result=True)
        app.close()

    async def ready(self, worker: subprocess.Popen[bytes], *queues: str) -> WorkerLive:
        """Once it serves these queues, among others."""

        def serves() -> list[WorkerLive]:
            one = self.announced().get(worker.pid)
            return [one] if one is not None and set(queues) <= set(one.queues) else []

        (found,) = await wait_for(serves, 120, f"a worker serves {', '.join(queues)}")
        return found

    @asynccontextmanager
    async def gateway(self, **settings: Any) -> AsyncIterator[Gateway]:  # noqa: ANN401 - any setting
        """A gateway, with the line in place of a connector."""
        consumers = {"mes": Consumer(), "scada": Consumer()}
        for one in consumers.values():
            one.up.set()
        plug = Plug(sources={"field": self.peer}, sinks=consumers)
        chosen = Settings(data_dir=self.works.folder / "gateway", database_url=self.works.url, **settings)
        door, stop = Door(self.redis), asyncio.Event()
        made = await asyncio.to_thread(Gateway, chosen, door, plug.load)
        task = asyncio.create_task(made.run(stop))
        try:
            yield made
        finally:
            stop.set()
            await asyncio.wait_for(task, 30)
            door.close()


def told(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[str, str]]:
    """What was said of work that moved, and of which queue."""
    return [(one["event"], one["queue"]) for one in logs if one["event"] in {WORK_MOVED, WORK_BACK}]


def kill(worker: subprocess.Popen[bytes]) -> None:
    """The worker and its children are gone at once."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


@pytest.fixture
def line(tmp_path: Path, redis: str) -> Iterator[Line]:
    """A pipeline whose order of devices is SimNPU, then the CPU."""
    url = f"sqlite:///{tmp_path / 'headrace.db'}"
    upgrade(url)
    works = Works(url, tmp_path, proto=model(), spec={**SPEC, "devices": list(NPU)})
    yield Line(works, redis)
    works.close()


async def test_work_goes_where_its_device_is_and_on_when_that_goes(line: Line) -> None:
    """The worker with the device gets it; killed, the other one does, within seconds, and each window once.

    It is told once that work moved and once that it is back. A pipeline that wishes for the CPU shares the messages.
    """
    still = line.another("cpu")
    with structlog.testing.capture_logs() as logs, ExitStack() as held:
        plain = held.enter_context(line.worker("plain", SIMNPU_DEVICES="0"))
        npu = held.enter_context(line.worker("npu"))
        assert "simnpu" not in (await line.ready(plain, DEFAULT_QUEUE)).classes
        assert {"simnpu:0", "simnpu:1", "cpu"} <= set((await line.ready(npu, "infer.simnpu", DEFAULT_QUEUE)).devices)
        async with line.gateway() as gateway:
            line.feed(LENGTH)
            await line.answered_on("simnpu:0")
            await line.answered_on("cpu", still)
            kill(npu)
            line.feed(EACH)
            await line.answered_on("cpu")
            assert npu.pid not in line.announced()
            npu = held.enter_context(line.worker("npu"))
            await line.ready(npu, "infer.simnpu")
            await wait_for(lambda: (WORK_BACK, "infer.simnpu") in told(logs), 20, "the gateway knows of it")
            await line.answered_on("simnpu:0")
            # It is asked to stop, and takes back what it has announced.
            npu.terminate()
            await wait_for(lambda: npu.pid not in line.announced(), 5, "it is announced no more")
            await line.answered_on("cpu")
            await wait_for(lambda: gateway.dispatcher.safe() == gateway.journal.head, 60, "all is applied")
    assert told(logs) == [(WORK_MOVED, "infer.simnpu"), (WORK_BACK, "infer.simnpu"), (WORK_MOVED, "infer.simnpu")]
    assert any(one["event"] == MESSAGES_SENT_AGAIN and one["why"] == "moved" for one in logs)
    for version in (line.works.version, still):
        found = [one for one in line.answers(version) if not one.reason.startswith("no_data")]
        assert [one.reason for one in found if one.reason] == []
        assert [one.sequence for one in line.answers(version)] == list(range(1, len(line.answers(version)) + 1))


async def test_a_device_that_its_worker_loses_moves_its_work_though_the_worker_lives(line: Line) -> None:
    """What is lost is not announced; where nothing is left of its class its queue is served no more."""
    plug = line.works.folder / "unplugged"
    with line.worker("npu", SIMNPU_UNPLUGGED=str(plug)) as npu:
        await line.ready(npu, "infer.simnpu")
        async with line.gateway():
            line.feed(LENGTH)
            await line.answered_on("simnpu:0")
            plug.touch()
            await line.answered_on("cpu")

            def lost() -> bool:
                one = line.announced()[npu.pid]
                return "simnpu" not in one.classes and "simnpu:0" not in one.devices and "cpu" in one.devices

            await wait_for(lost, 30, "the lost device is not announced")
            # A look shows that the others of its class are gone with it.
            gone = "no queue of its class is served"
            await wait_for(lambda: "infer.simnpu" not in line.announced()[npu.pid].queues, 90, gone)
            await line.answered_on("cpu")


async def test_windows_of_a_gap_are_computed_again_where_their_device_is(line: Line) -> None:
    """A worker that is asked and has another device leaves them to those that have it, and asks them."""
    with line.worker("plain", SIMNPU_DEVICES="0") as plain, line.worker("npu") as npu:
        await line.ready(plain, DEFAULT_QUEUE)
        await line.ready(npu, "infer.simnpu")
        async with line.gateway() as gateway:
            line.feed(LENGTH)
            await line.answered_on("simnpu:0")
            await wait_for(lambda: gateway.dispatcher.safe() == gateway.journal.head, 60, "all is applied")
        first, last = line.answers()[0].end_time, line.answers()[-1].end_time
        with writing(line.works.engine) as session:
            session.add(GapRow(connection_id=1, since=first, until=last, state="filled"))
            session.add(RecomputeRow(gap_id=1, version_id=line.works.version, done_until=first, until=last))
        os.killpg(npu.pid, signal.SIGSTOP)
        for _ in range(4):
            # The one that stands still may have been given the first.
            line.ask_for(RECOMPUTE, HOUSEKEEPING)
        door = Door(line.redis)
        await wait_for(lambda: door.waiting("housekeeping.simnpu"), 8, "the other one has asked it")
        door.close()
        os.killpg(npu.pid, signal.SIGCONT)

        def again() -> list[PredictionRow]:
            return [one for one in line.answers() if one.late]

        late = await wait_for(again, 60, "windows are computed again")
    assert {one.device for one in late} == {"simnpu:0"}
    assert "windows_recomputed" not in (line.works.folder / "plain.log").read_text(encoding="utf-8")


@pytest.mark.skipif(inference.backend("webgpu").absent() is not None, reason=f"no WebGPU here: {vulkan.MISSING}")
async def test_pipelines_on_the_same_readings_whose_devices_are_at_two_workers(line: Line) -> None:
    """Each is answered where its device is, both of a message or none; killed, the other worker answers both."""
    drawn = line.another("webgpu", "cpu")
    nothing = {"VK_DRIVER_FILES": "", "VK_ICD_FILENAMES": "", "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "0"}
    with ExitStack() as held:
        npu = held.enter_context(line.worker("npu", **nothing))
        gpu = held.enter_context(line.worker("gpu", SIMNPU_DEVICES="0"))
        assert "webgpu" not in (await line.ready(npu, "infer.simnpu")).classes
        assert "simnpu" not in (await line.ready(gpu, "infer.webgpu")).classes
        async with line.gateway() as gateway:
            line.feed(LENGTH)
            await line.answered_on("simnpu:0")
            await line.answered_on("webgpu:0", drawn)
            kill(gpu)
            line.feed(EACH)
            await line.answered_on("cpu", drawn)
            await line.answered_on("simnpu:0")
            gpu = held.enter_context(line.worker("gpu", SIMNPU_DEVICES="0"))
            await line.ready(gpu, "infer.webgpu")
            await line.answered_on("webgpu:0", drawn)
            await wait_for(lambda: gateway.dispatcher.safe() == gateway.journal.head, 60, "all is applied")
    first, second = line.answers(), line.answers(drawn)
    assert [one.sequence for one in first] == [one.sequence for one in second] == list(range(1, len(first) + 1))
    answered = [(one, other) for one, other in zip(first, second, strict=True) if not one.reason.startswith("no_data")]
    assert {one.reason for pair in answered for one in pair} == {""}
    assert {one.device for one in first if not one.reason} == {"simnpu:0"}
    for one, other in answered:
        assert one.outputs["score"] == pytest.approx(other.outputs["score"])
        assert (one.number, one.input_digest) == (other.number, other.input_digest)


async def test_a_fixed_queue_takes_everything_as_before(line: Line) -> None:
    """Whatever devices there are: one queue for the gateway and its worker, and none for a class."""
    with line.worker("npu", HEADRACE_QUEUE="line2") as npu, line.worker("other") as other:
        assert (await line.ready(npu, "line2")).queues == ("line2",)
        await line.ready(other, "infer.simnpu")
        async with line.gateway(queue="line2"):
            line.feed(LENGTH)
            await line.answered_on("simnpu:0")
    logs = {name: (line.works.folder / f"{name}.log").read_text(encoding="utf-8") for name in ("npu", "other")}
    assert "session_ready" in logs["npu"]
    assert "session_ready" not in logs["other"]
