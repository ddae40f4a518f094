"""What is offered to whom: the operator's list, versions, memory, devices, tokens, and requests that meet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.errors import Problem
from app.main import make_serving
from app.serving.api import Doors
from app.serving.service import NEWEST, Loaded, Serving
from inference import DeviceLostError, Placement, backend
from inference.adapters.batching import Batching
from inference.adapters.session import CheckedSession
from inference.microbatch import Microbatcher, Pace
from tests.app.serving.conftest import Box
from tests.inference import onnx_graphs as graphs
from tests.waiting import wait_for, wait_until

CPU = {"judge": ("cpu",)}
X = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}


def _infer(client: TestClient, path: str = "judge", **headers: str) -> Response:
    return client.post(f"/v2/models/{path}/infer", json={"inputs": [X]}, headers=headers)


@asynccontextmanager
async def _started(box: Box, serve: dict[str, tuple[str, ...]], **more: Any) -> AsyncIterator[Serving]:  # noqa: ANN401
    serving = make_serving(box.engine, box.settings(serve, **more))
    serving.start()
    await wait_for(lambda: "being loaded" not in serving.state())
    yield serving
    await serving.close()


def test_nothing_is_offered_that_the_operator_did_not_name(box: Box) -> None:
    """A model that was imported and not named is unknown, and the answer says where it is named."""
    box.add("judge", graphs.mul())
    with box.serve({}) as client:
        answer = _infer(client)
    assert answer.status_code == 404
    assert "HEADRACE_SERVE" in answer.json()["error"]


@pytest.mark.parametrize(
    ("permissions", "status"), [((), 401), (("read",), 403), (("read", "configure"), 403), (("infer",), 200)]
)
def test_only_a_token_that_may_infer_is_answered(box: Box, permissions: tuple[str, ...], status: int) -> None:
    """No token: 401; a token for something else: 403; and metadata is as closed as inference."""
    box.add("judge", graphs.mul())
    with box.serve(CPU) as client:
        client.headers["Authorization"] = f"Bearer {box.token(*permissions)}" if permissions else "Basic x"
        answers = [_infer(client), client.get("/v2"), client.get("/v2/models/judge")]
    assert [one.status_code for one in answers] == [status] * 3
    assert status != 401 or answers[0].headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("role", ["viewer", "auditor"])
def test_who_only_looks_may_not_infer(role: str) -> None:
    """The permission belongs to operators and above: inference costs a device its time."""
    from app.access.schemas import ROLES  # noqa: PLC0415

    assert "infer" not in ROLES[role]


async def test_a_revoked_token_is_refused_once_it_is_looked_up_again(box: Box) -> None:
    """It is believed for a moment, not longer; those who ask at once ask the database once."""
    doors = Doors(box.engine)
    header = f"Bearer {box.token()}".encode()
    assert not doors.open(header)
    await asyncio.gather(*(doors.look(header) for _ in range(20)))
    assert doors.open(header)
    box.revoke_all()
    with pytest.raises(Problem, match="revoked"):
        await doors.look(header)


def test_the_newest_version_answers_unless_one_is_named(box: Box) -> None:
    """Both are in memory at once, and each answer says its version."""
    box.add("judge", graphs.mul(), "1.0", at=1)
    box.add("judge", graphs.overflowing(), "2.0", at=2)
    with box.serve(CPU) as client:
        newest = client.get("/v2/models/judge").json()["inputs"][0]["shape"]
        older = _infer(client, "judge/versions/1.0")
        in_memory = client.get("/api/v1/serving", headers={"Authorization": f"Bearer {box.token('read')}"}).json()
    assert newest == [-1, 16]
    assert older.json()["model_version"] == "1.0"
    assert [one["version"] for one in in_memory] == ["1.0", "2.0"]
    assert in_memory[0]["requests"] == in_memory[0]["rows"] == 1


async def test_a_version_imported_later_is_found_when_it_is_asked_for(box: Box) -> None:
    """Nothing has to be started again."""
    box.add("judge", graphs.mul(), "1.0", at=1)
    async with _started(box, CPU) as serving:
        with pytest.raises(Problem, match="no version '2.0'"):
            await serving.version("judge", "2.0")
        box.add("judge", graphs.mul(13), "2.0", at=2)
        assert (await serving.version("judge", "2.0")).version == "2.0"
        assert (await serving.version("judge", NEWEST)).version == "2.0"


async def test_the_least_recently_used_makes_room(box: Box) -> None:
    """With memory for two of three models, the one that was not asked for is unloaded, and comes back when it is."""
    for name in ("a", "b", "c"):
        box.add(name, graphs.mlp())
    async with _started(box, dict.fromkeys(("a", "b", "c"), ("cpu",))) as serving:
        size = max(one.size for one in serving.loaded())
        serving.memory_bytes = 2 * size
        for name in ("c", "a", "b", "a"):
            await serving.load(await serving.version(name, NEWEST))
            assert sum(one.size for one in serving.loaded()) <= 3 * size
        c = await serving.version("c", NEWEST)
        await serving._unload(next(one for one in serving.loaded() if one.version == c))  # noqa: SLF001
        await serving.load(c)
        assert [one.version.name for one in serving.loaded()] == ["c", "a"]


async def test_a_model_with_requests_under_way_is_not_unloaded(box: Box) -> None:
    """Then there is no room, and the caller is told to come again."""
    box.add("a", graphs.mul())
    box.add("b", graphs.mul())
    async with _started(box, {"a": ("cpu",), "b": ("cpu",)}) as serving:
        a, b = (await serving.load(await serving.version(name, NEWEST)) for name in ("a", "b"))
        await serving._unload(b)  # noqa: SLF001
        serving.memory_bytes = a.size + b.size - 1
        a.pending = 1
        with pytest.raises(Problem, match="no memory for b") as refusal:
            await serving.load(b.version)
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (503, "1")
        a.pending = 0
        await serving.load(b.version)
        assert [one.version.name for one in serving.loaded()] == ["b"]
