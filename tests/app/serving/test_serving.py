"""What is offered to whom: the operator's list, versions, memory, devices, tokens, and requests that meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.access.schemas import ROLES
from app.errors import Problem
from app.main import make_service, make_serving
from app.serving.api import Doors
from app.serving.service import NEWEST, Loaded, Serving
from inference.microbatch import Pace
from tests.app.serving.conftest import Box
from tests.inference import onnx_graphs as graphs
from tests.waiting import wait_for, wait_until

CPU: dict[str, tuple[str, ...]] = {"judge": ("cpu",)}
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


def test_what_is_asked_is_counted_in_the_metrics(box: Box) -> None:
    """By model, version and device: requests, rows and runs."""
    box.add("judge", graphs.mul())
    service = make_service(box.url, box.settings(CPU))
    with TestClient(service, client=("127.0.0.1", 50000)) as client:
        client.headers["Authorization"] = f"Bearer {box.token()}"
        assert [_infer(client).status_code for _ in range(2)] == [200, 200]
        lines = client.get("/metrics").text.splitlines()
    assert 'headrace_serving_requests_total{device="cpu",model="judge",version="0"} 2.0' in lines
    assert 'headrace_serving_rows_total{device="cpu",model="judge",version="0"} 2.0' in lines


async def test_a_version_imported_later_is_found_when_it_is_asked_for(box: Box) -> None:
    """Nothing has to be started again."""
    box.add("judge", graphs.mul(), "1.0", at=1)
    async with _started(box, CPU) as serving:
        with pytest.raises(Problem, match=r"no version '2\.0'"):
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
        await serving.unload(next(one for one in serving.loaded() if one.version == c))
        await serving.load(c)
        assert [one.version.name for one in serving.loaded()] == ["c", "a"]


async def test_a_model_with_requests_under_way_is_not_unloaded(box: Box) -> None:
    """Then there is no room, and the caller is told to come again."""
    box.add("a", graphs.mul())
    box.add("b", graphs.mul())
    async with _started(box, {"a": ("cpu",), "b": ("cpu",)}) as serving:
        a, b = [await serving.load(await serving.version(name, NEWEST)) for name in ("a", "b")]
        await serving.unload(b)
        serving.memory_bytes = a.size + b.size - 1
        a.pending = 1
        with pytest.raises(Problem, match="no memory for b") as refusal:
            await serving.load(b.version)
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (503, "1")
        a.pending = 0
        await serving.load(b.version)
        assert [one.version.name for one in serving.loaded()] == ["b"]


def test_the_first_device_of_the_order_that_takes_it_runs_it(box: Box) -> None:
    """The answer says which device was wanted and which one computed."""
    box.add("judge", graphs.mul())
    with box.serve({"judge": ("ascend", "cpu")}) as client:
        parameters = _infer(client).json()["parameters"]
    assert (parameters["device_wanted"], parameters["device"]) == ("ascend", "cpu")


def test_a_model_that_no_device_takes_is_not_ready(box: Box) -> None:
    """No device outside the order is tried: 503 with the reason, for model and server; the rest is served."""
    box.add("judge", graphs.mul())
    box.add("other", graphs.mul())
    with box.serve({"judge": ("ascend",), "other": ("cpu",)}) as client:
        answers = [_infer(client), client.get("/v2/models/judge/ready"), client.get("/v2/health/ready")]
        other = _infer(client, "other")
    assert [one.status_code for one in answers] == [503] * 3
    assert all("ascend" in one.json()["error"] for one in answers)
    assert other.status_code == 200


def test_a_named_model_that_was_not_imported_is_not_ready(box: Box) -> None:
    """The server says which one, and the caller what to do."""
    with box.serve(CPU) as client:
        ready, answer = client.get("/v2/health/ready"), _infer(client)
    assert (ready.status_code, answer.status_code) == (503, 404)
    assert "judge" in ready.json()["error"]
    assert "plant.yaml" in answer.json()["error"]


async def _judge(serving: Serving) -> Loaded:
    return await serving.load(await serving.version("judge", NEWEST))


def _rows(value: float) -> dict[str, Any]:
    return {"x": np.full((1, 3), value, np.float32)}


async def test_requests_that_meet_are_one_run(box: Box) -> None:
    """Thirty-two callers of one round, once the session is warm: one run, and each has its own answer."""
    box.add("judge", graphs.mul())
    async with _started(box, CPU) as serving:
        judge = await _judge(serving)
        await serving.infer(judge, _rows(0))
        await wait_for(lambda: judge.batcher.idle)
        before = judge.batcher.figures.runs
        answers = await asyncio.gather(*(serving.infer(judge, _rows(value)) for value in range(32)))
    assert [float(outputs["y"][0, 0]) for _, outputs in answers] == [2.0 * value for value in range(32)]
    assert judge.batcher.figures.runs == before + 1


async def test_a_full_queue_sends_callers_away_for_a_moment(box: Box) -> None:
    """503 with Retry-After; the one before the limit is answered."""
    box.add("judge", graphs.mul())
    async with _started(box, CPU) as serving:
        await serving.unload(await _judge(serving))
        serving.pace = Pace(waiting=1)
        judge = await _judge(serving)
        requests = [serving.infer(judge, _rows(value)) for value in range(3)]
        answers = await asyncio.gather(*requests, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, Problem)]
    assert len(refused) == 2
    assert {(one.status, one.headers["Retry-After"]) for one in refused} == {(503, "1")}


async def test_a_session_that_is_lost_is_made_ready_anew(box: Box) -> None:
    """The request that met the loss is answered by the next session."""
    box.add("judge", graphs.mul())
    async with _started(box, CPU) as serving:
        first = await _judge(serving)
        first.batcher.close()
        second, outputs = await serving.infer(first, _rows(21))
        assert second is not first
        assert float(outputs["y"][0, 0]) == 42
        assert serving.loaded() == [second]


async def test_two_requests_that_meet_a_loss_get_one_new_session(box: Box) -> None:
    """Neither takes away what was made ready for the other, also where one of them is late."""
    box.add("judge", graphs.mul())
    async with _started(box, CPU) as serving:
        first = await _judge(serving)
        first.batcher.close()
        answers = await asyncio.gather(*(serving.infer(first, _rows(value)) for value in range(8)))
        assert [float(outputs["y"][0, 0]) for _, outputs in answers] == [2.0 * value for value in range(8)]
        second = answers[0][0]
        assert all(used is second for used, _ in answers)
        late, _ = await serving.infer(first, _rows(1))
        assert late is second


def test_a_database_that_is_away_is_said(box: Box) -> None:
    """503 and to come again, for the model and for the server; live it is all the same."""
    away = f"sqlite:///{box.folder / 'absent' / 'headrace.db'}"
    with TestClient(make_service(away, box.settings(CPU))) as client:
        client.headers["Authorization"] = f"Bearer {box.token()}"
        ready = wait_until(lambda: _about_database(client))
        assert ready is not None
        assert (ready.status_code, _infer(client).status_code) == (503, 503)
        assert client.get("/v2/health/live").status_code == 200


def _about_database(client: TestClient) -> Response | None:
    ready = client.get("/v2/health/ready")
    return ready if "database" in ready.text else None


async def test_a_model_larger_than_the_memory_is_refused_with_the_setting(box: Box) -> None:
    """Nothing else is unloaded for it."""
    box.add("judge", graphs.mul())
    async with _started(box, CPU) as serving:
        await serving.unload(await _judge(serving))
        serving.memory_bytes = 1
        with pytest.raises(Problem, match="HEADRACE_SERVE_MEMORY_MB"):
            await _judge(serving)


def test_a_model_served_on_no_device_is_a_mistake_of_the_settings(box: Box) -> None:
    """The operator is told at start, not the first caller."""
    with pytest.raises(ValueError, match="serve names no device for judge"):
        box.settings({"judge": ()})
