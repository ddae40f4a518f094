"""The gateway's inner path: batches into the journal, windows out of it, messages to a real Redis; against bare files.

`python -m bench.journal --seconds 20` runs, one after the other in one go: a bare append with fdatasync of the same
bytes, the journal alone, and journal + windows + dispatch. It prints readings/s, CPU per reading, bytes per reading
on disk, and what a day at 10,000 readings/s writes. Values are a sine and noise rounded to three decimals, as a PLC's
scaled values are; `--full` keeps the full mantissa, which nothing compresses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from kombu.connection import Connection

from app import times
from app.db import make_engine, writing
from app.field.dispatcher import Dispatcher
from app.field.snapshots import Snapshots
from app.field.windowing import Windowing
from app.journal import Journal
from app.launcher import servers
from app.messages import Message
from app.pipelines.schemas import InputSpec, PipelineSpec, WindowSpec
from app.pipelines.service import Version, window_spec
from app.queue import CONTENT_TYPE, Door
from app.readings.tables import AppliedRow
from app.records import to_record
from app.tables import metadata
from connectors import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE: Final = "bench.journal"
DAY_READINGS: Final = 10_000 * 86_400


@dataclass(frozen=True, slots=True)
class Load:
    """What is offered."""

    tags: int
    hz: float
    seconds: float
    pipelines: int
    full: bool


def batches(load: Load) -> Iterator[Batch]:
    """One scan of every tag per batch, for ever."""
    random = np.random.default_rng(1)
    tags = np.arange(1, load.tags + 1, dtype=np.int64)
    phase, status = random.uniform(0, 6.28, load.tags), np.zeros(load.tags, dtype=np.uint32)
    scan = 0
    while True:
        now = times.now()
        values = 50 + 10 * np.sin(phase + scan * 0.05) + random.normal(0, 0.05, load.tags)
        source_time = np.full(load.tags, now, dtype=np.int64)
        yield Batch(tags, source_time, values if load.full else values.round(3), {}, status, now, now, 1)
        scan += 1


async def paced(load: Load, take: Callable[[Batch], object]) -> dict[str, float]:
    """Offer every batch on its beat; CPU of the whole process, and how long a batch took, in ms."""
    source = batches(load)
    start, used = time.monotonic(), time.process_time()
    took: list[float] = []
    for beat in range(round(load.seconds * load.hz)):
        await asyncio.sleep(max(0.0, start + beat / load.hz - time.monotonic()))
        before = time.perf_counter()
        done = take(next(source))
        if asyncio.iscoroutine(done):
            await done
        took.append((time.perf_counter() - before) * 1000)
    seconds, cpu = time.monotonic() - start, time.process_time() - used
    readings = len(took) * load.tags
    return {
        "readings_per_s": round(readings / seconds),
        "cpu_percent_of_a_core": round(100 * cpu / seconds, 2),
        "cpu_us_per_reading": round(cpu / readings * 1e6, 3),
        "p50_ms": round(float(np.percentile(took, 50)), 2),
        "p99_ms": round(float(np.percentile(took, 99)), 2),
    }


async def bare(load: Load, folder: Path) -> dict[str, float]:
    """The floor: the batch's raw columns appended to a file, fdatasync after each."""
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT)
    try:

        def take(batch: Batch) -> None:
            for column in (batch.tags, batch.source_time, batch.values, batch.status):
                os.write(fd, column.tobytes())
            os.fdatasync(fd)

        found = await paced(load, take)
        return {**found, **on_disk(os.fstat(fd).st_size, load)}
    finally:
        os.close(fd)


async def generate(load: Load, _folder: Path) -> dict[str, float]:
    """What making the batches costs by itself: to be taken off the others."""
    return await paced(load, len)


async def journal_alone(load: Load, folder: Path) -> dict[str, float]:
    """Pack, journal, wait for the fsync."""
    journal = Journal(folder / "alone", "bench", commit_interval_s=0.005, budget=2**31)
    try:
        found = await paced(load, lambda batch: journal.append(to_record(1, batch)))
        return {**found, **on_disk(journal.state.bytes, load)}
    finally:
        await asyncio.to_thread(journal.close)


def on_disk(size: int, load: Load) -> dict[str, float]:
    """Bytes per reading, and GB a day at 10,000 readings/s."""
    per_reading = size / (round(load.seconds * load.hz) * load.tags)
    return {"bytes_per_reading": round(per_reading, 2), "gb_a_day_at_10k": round(per_reading * DAY_READINGS / 1e9, 2)}


def versions(load: Load) -> dict[int, Version]:
    """Pipelines over ten tags each, a window of ten rows with every scan."""
    found = {}
    for key in range(1, load.pipelines + 1):
        first = (key - 1) * 10 % max(1, load.tags - 10) + 1
        spec = PipelineSpec(
            name=f"p{key}",
            model_digest="sha256:0",
            model_input="x",
            window=WindowSpec(step_s=1 / load.hz, length=10, lateness_s=0.05),
            inputs=tuple(InputSpec(tag=first + i, connection=1) for i in range(10)),
            outputs=(),
        )
        found[key] = Version(key, key, spec.name, 1, spec, window_spec(spec))
    return found


def consume(url: str, database: str) -> None:
    """Take every message and mark it applied, as a worker without a model would; print how late, ended by SIGTERM."""
    engine = make_engine(database)
    decoder = msgspec.msgpack.Decoder(Message)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    late: list[float] = []
    windows = 0
    with Connection(url) as connection:  # type: ignore[no-untyped-call]
        queue = connection.SimpleQueue(QUEUE)
        queue.consumer.accept = {CONTENT_TYPE}
        print("ready", flush=True)
        while not stop.is_set():
            try:
                taken = queue.get(timeout=0.2)
            except queue.Empty:
                continue
            message = decoder.decode(taken.payload[0][0])
            taken.ack()
            with writing(engine) as session:
                session.add(AppliedRow(journal=message.journal, epoch=message.epoch, number=message.number))
            windows += sum(len(one.sequence) // 8 for one in message.windows)
            late.append((times.now() - message.record.received_time) / 1e6)
        queue.close()
    p50, p99 = np.percentile(late, (50, 99)) if late else (0.0, 0.0)
    print(json.dumps({"messages": len(late), "windows": windows, "p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}))


async def whole(load: Load, folder: Path) -> dict[str, float]:
    """Journal, windows and dispatch as the gateway runs them; the consumer is a process of its own."""
    url = f"sqlite:///{folder / 'bench.db'}"
    engine = make_engine(url)
    metadata.create_all(engine)
    async with servers.redis(folder) as redis:
        command = [sys.executable, "-m", "bench.journal", "--consume", redis, url]
        consumer = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert consumer.stdout is not None
        await consumer.stdout.readline()
        journal = Journal(folder / "whole", "bench", commit_interval_s=0.005, budget=2**31)
        windowing, door = Windowing(), Door(redis)
        dispatcher = Dispatcher(journal, windowing, engine, door, queue=QUEUE, batches=64, resend_after_s=10)
        dispatcher.known.update(versions(load))
        await dispatcher.prepare()
        windowing.start(journal.first, dispatcher.safe(), Snapshots(folder / "snapshots"), {})
        running = asyncio.create_task(dispatcher.run())
        await journal.switch(tuple(dispatcher.known))
        found = await paced(load, lambda batch: journal.append(to_record(1, batch)))
        await dispatcher.drained(10)
        running.cancel()
        await asyncio.wait([running])
        await dispatcher.close()
        await asyncio.to_thread(journal.close)
        consumer.terminate()
        said, _ = await consumer.communicate()
        door.close()
    engine.dispose()
    return {**found, **{f"consumer_{key}": value for key, value in json.loads(said).items()}}


CASES: Final = {
    "generating the batches": generate,
    "bare append + fdatasync": bare,
    "journal": journal_alone,
    "journal + windows + dispatch": whole,
}


async def measure(load: Load) -> None:
    """Each case for the same time, one after the other."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        for case, run in CASES.items():
            print(json.dumps({"case": case, **await run(load, Path(name))}), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=5000)
    parser.add_argument("--hz", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pipelines", type=int, default=39)
    parser.add_argument("--full", action="store_true", help="values with a full mantissa")
    parser.add_argument("--consume", nargs=2, metavar=("REDIS", "DATABASE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.consume:
        consume(*given.consume)
        return
    asyncio.run(measure(Load(given.tags, given.hz, given.seconds, given.pipelines, given.full)))


if __name__ == "__main__":
    main()
