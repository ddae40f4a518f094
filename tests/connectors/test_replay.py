"""Recordings: everything in them comes out, what is no reading is refused, what is no recording is not opened."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from connectors import NO_TIME, Batch, ConnectionConfig, EndOfInput, RefusedError, TagBinding
from connectors.replay import HEADER, ReplaySource


def source(path: Path, *names: str, **options: object) -> ReplaySource:
    """A replay of these tags, numbered from 1."""
    tags = tuple(TagBinding(n, name) for n, name in enumerate(names, 1))
    return ReplaySource(ConnectionConfig("recording", {"path": path, **options}, tags, 3, str(path.parent)))


async def whole(replay: ReplaySource) -> list[Batch]:
    """All batches to the end."""
    await replay.connect()
    batches: list[Batch] = []
    while True:
        try:
            batches.append(await replay.read())
        except EndOfInput:
            return batches


def csv(path: Path, *lines: str) -> Path:
    """A CSV recording."""
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


def test_values(tmp_path: Path) -> None:
    """Numbers, booleans, strings with commas, nothing, wide integers and missing times come as a log has them."""
    lines = (
        "a,1,2.5,0",
        'b,2,"x, ""y""",5',
        'b,3,"one, two",0',
        "a,4,,2156527616",
        "a,5,null,2156527616",
        "a,,true,0",
        "b,7,9007199254740993,0",
        "c,8,1,0",
    )
    (batch,) = asyncio.run(whole(source(csv(tmp_path / "log.csv", *lines), "a", "b")))
    assert batch.tags.tolist() == [1, 2, 2, 1, 1, 1, 2]
    assert batch.source_time.tolist() == [1, 2, 3, 4, 5, NO_TIME, 7]
    assert batch.status.tolist() == [0, 5, 0, 2156527616, 2156527616, 0, 0]
    assert np.array_equal(batch.values, [2.5, np.nan, np.nan, np.nan, np.nan, 1.0, np.nan], equal_nan=True)
    assert batch.others == {1: '"x, ""y"""', 2: "one, two", 6: 2**53 + 1}
    assert batch.revision == 3


def test_batches(tmp_path: Path) -> None:
    """A long recording comes in batches of the configured size, in order."""
    path = csv(tmp_path / "log.csv", *(f"a,{n},{n},0" for n in range(250)))
    batches = asyncio.run(whole(source(path, "a", rows_per_batch=100)))
    assert [len(b) for b in batches] == [100, 100, 50]
    assert np.concatenate([b.values for b in batches]).tolist() == list(range(250))


@pytest.mark.parametrize("line", ["a,1,2", "a,1,2,x", "a,1,2,-1", "a,1,2,4294967296", "a,1.5,2,0", "a"])
def test_broken_line(tmp_path: Path, line: str) -> None:
    """A line that is no reading is refused; the lines around it are read."""
    (batch,) = asyncio.run(whole(source(csv(tmp_path / "log.csv", "a,1,1,0", line, "a,2,2,0"), "a")))
    assert batch.values.tolist() == [1.0, 2.0]
    (refusal,) = batch.refused
    assert (refusal.address, refusal.reason, refusal.excerpt) == ("a", "broken_row", line.encode())


def test_npz(tmp_path: Path) -> None:
    """An NPZ recording holds the same; rows that name no tag or no StatusCode are refused."""
    path = tmp_path / "log.npz"
    names, values = np.array(["a", "b"]), np.array([1.5, np.nan, 0, 0])
    np.savez(path, names=names, tag=[0, 1, 5, 0], source_time=[1, 2, 3, 4], value=values, status=[0, 2**31, 0, -1])
    (batch,) = asyncio.run(whole(source(path, "a", "b")))
    assert batch.tags.tolist() == [1, 2]
    assert batch.status.tolist() == [0, 2**31]
    assert [r.address for r in batch.refused] == ["5", "a"]


def test_not_a_recording(tmp_path: Path) -> None:
    """Another file is refused, whatever its name says, and a pickle is never opened."""
    (tmp_path / "log.csv").write_text("time,value\n1,2\n")
    (tmp_path / "noise.npz").write_bytes(b"noise")
    np.savez(tmp_path / "short.npz", names=np.array(["a"]), tag=[0, 0], source_time=[1], value=[1.0], status=[0])
    np.savez(tmp_path / "float.npz", names=np.array(["a"]), tag=[0.5], source_time=[1], value=[1.0], status=[0])
    np.savez(
        tmp_path / "pickle.npz",
        names=np.array([{"a": 1}], dtype=object),
        tag=[0],
        source_time=[1],
        value=[1.0],
        status=[0],
    )
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(RefusedError, match="not a recording"):
            asyncio.run(source(path, "a").connect())


def test_plant_log(tmp_path: Path) -> None:
    """A recording may be replayed from the beginning as often as one likes."""
    replay = source(csv(tmp_path / "log.csv", "a,1,1,0"), "a")

    async def twice() -> list[int]:
        return [len(await whole(replay)), len(await whole(replay))]

    assert asyncio.run(twice()) == [1, 1]


def test_other_tags(tmp_path: Path) -> None:
    """Other tags are read from the next row on; a recording does not begin again for them."""
    lines = (f"{name},{n},{n},0" for n in range(4) for name in "ab")
    replay = source(csv(tmp_path / "log.csv", *lines), "a", rows_per_batch=4)

    async def rebound() -> list[Batch]:
        await replay.connect()
        first = await replay.read()
        other = ConnectionConfig("recording", {}, (TagBinding(2, "b"),), 4, "")
        assert await replay.rebind(other)
        return [first, await replay.read()]

    first, second = asyncio.run(rebound())
    assert (first.tags.tolist(), first.values.tolist(), first.revision) == ([1, 1], [0, 1], 3)
    assert (second.tags.tolist(), second.values.tolist(), second.revision) == ([2, 2], [2, 3], 4)
