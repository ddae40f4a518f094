"""The Open Inference Protocol v2 as a client sees it: metadata, health, inference in both forms, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.serving.api import MAX_BODY
from app.serving.schemas import MAX_JSON
from tests.app.serving.conftest import Box, opened
from tests.inference import onnx_graphs as graphs

X = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}
DOUBLED = [2, 4, 6, 8, 10, 12]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of one model that doubles."""
    with opened(tmp_path_factory.mktemp("judge")) as box:
        box.add("judge", graphs.mul())
        with box.serve({"judge": ("cpu",)}) as client:
            yield client


def _infer(client: TestClient, *inputs: dict[str, Any], path: str = "judge", **more: Any) -> Response:  # noqa: ANN401
    return client.post(f"/v2/models/{path}/infer", json={"inputs": inputs, **more})


def _binary(client: TestClient, header: dict[str, Any], *raw: bytes, path: str = "judge") -> Response:
    text = msgspec.json.encode(header)
    length = {"Inference-Header-Content-Length": str(len(text))}
    return client.post(f"/v2/models/{path}/infer", content=b"".join((text, *raw)), headers=length)


def test_a_request_in_json_is_answered_in_json(box: Box) -> None:
    """Names, types, shapes, data, the caller's id, and in the parameters what computed it."""
    model = box.add("judge", graphs.mul())
    with box.serve({"judge": ("cpu",)}) as client:
        answer = _infer(client, X, id="abc")
    assert answer.status_code == 200
    body = answer.json()
    parameters = body.pop("parameters")
    assert body == {
        "model_name": "judge",
        "model_version": "0",
        "id": "abc",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": DOUBLED}],
    }
    assert parameters["device"] == parameters["device_wanted"] == "cpu"
    assert parameters["model_digest"] == model.digest
    assert parameters["nodes_on_device"] == parameters["nodes"]
    assert answer.headers["cache-control"] == "no-store"


def test_raw_tensors_in_and_out(box: Box) -> None:
    """The answer says how many of its bytes are JSON; the rest are the tensors, in its order."""
    box.add("judge", graphs.two_outputs())
    x = np.array([[1, -2]], "<f4")
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    wanted = [{"name": "high", "parameters": {"binary_data": True}}, {"name": "low"}]
    with box.serve({"judge": ("cpu",)}) as client:
        answer = _binary(client, {"inputs": [given], "outputs": wanted}, x.tobytes())
        everything = _binary(client, {"inputs": [given], "parameters": {"binary_data_output": True}}, x.tobytes())
    split = int(answer.headers["inference-header-content-length"])
    high, low = msgspec.json.decode(answer.content[:split])["outputs"]
    assert high == {"name": "high", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    assert np.frombuffer(answer.content[split:], "<f4").tolist() == [1, 2]
    assert low["data"] == [-1, 2]
    split = int(everything.headers["inference-header-content-length"])
    assert np.frombuffer(everything.content[split:], "<f4").tolist() == [-1, 2, 1, 2]


def test_raw_and_json_tensors_in_one_request(box: Box) -> None:
    """Some inputs raw, some in JSON; a scalar has no dimensions."""
    box.add("judge", graphs.scalar())
    raw = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    gain = {"name": "gain", "datatype": "FP32", "shape": [], "data": [3]}
    with box.serve({"judge": ("cpu",)}) as client:
        answer = _binary(client, {"inputs": [gain, raw]}, np.array([1, 2], "<f4").tobytes())
    assert answer.json()["outputs"][0]["data"] == [3, 6]


def test_texts_travel_as_bytes(box: Box) -> None:
    """A model with string outputs answers BYTES, as JSON strings and as raw elements led by their length."""
    box.add("judge", graphs.labels())
    given = {"name": "x", "datatype": "INT64", "shape": [2], "data": [0, 1]}
    with box.serve({"judge": ("cpu",)}) as client:
        in_json = _infer(client, given).json()["outputs"][0]
        raw = _infer(client, given, parameters={"binary_data_output": True})
    assert (in_json["datatype"], in_json["data"]) == ("BYTES", ["normal", "fault"])
    split = int(raw.headers["inference-header-content-length"])
    assert raw.content[split:] == b"\x06\0\0\0normal\x05\0\0\0fault"


def test_what_json_cannot_carry_is_had_in_bytes(box: Box) -> None:
    """NaN in JSON is refused with what to do; in raw form it comes as it is."""
    box.add("judge", graphs.not_finite())
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    with box.serve({"judge": ("cpu",)}) as client:
        refused = _infer(client, given)
        raw = _infer(client, given, parameters={"binary_data_output": True})
    assert refused.status_code == 400
    assert "ask for binary_data" in refused.json()["error"]
    split = int(raw.headers["inference-header-content-length"])
    assert np.isnan(np.frombuffer(raw.content[split:], "<f4")).all()


def test_metadata_of_server_and_model(box: Box) -> None:
    """Versions newest first, and tensors with -1 where a dimension is free."""
    box.add("judge", graphs.mlp(), "1.0", at=1)
    box.add("judge", graphs.mul(), "2.0", at=2)
    with box.serve({"judge": ("cpu",)}) as client:
        server = client.get("/v2").json()
        newest = client.get("/v2/models/judge").json()
        older = client.get("/v2/models/judge/versions/1.0").json()
    assert (server["name"], server["extensions"]) == ("headrace", ["binary_tensor_data"])
    assert newest == {
        "name": "judge",
        "versions": ["2.0", "1.0"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert older["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}]


def test_live_ready_and_ready_for_a_model(box: Box) -> None:
    """Health is open to whoever probes; the readiness of one model needs a token."""
    box.add("judge", graphs.mul())
    with box.serve({"judge": ("cpu",)}) as client:
        del client.headers["Authorization"]
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2/models/judge/ready").status_code == 401
        client.headers["Authorization"] = f"Bearer {box.token()}"
        assert client.get("/v2/models/judge/ready").json() == {"name": "judge", "ready": True}
        assert client.get("/v2/models/judge/versions/0/ready").status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no inference request"),
        (b"{}", "inputs"),
        (b'{"inputs": 1}', "inputs"),
        (b"[" * 100_000, "no inference request"),
        (b'{"inputs": []}', "missing: ['x']"),
        (b'{"inputs": [], "parameters": {"sequence_id": 7}}', "sequences are not offered"),
        (b'{"inputs": [{"name": "z", "datatype": "FP32", "shape": [1], "data": [1]}]}', "it takes: x"),
        (b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": [1]}]}', "takes FP32, not 'FP64'"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3]}]}', "neither data nor"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 3], "data": []}]}', ">= 1"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "data": []}]}', ">= 1"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}', "takes shape"),
        ((b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]},'
         b'{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'), "stands there twice"),
        ((b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],'
         b'"outputs": [{"name": "q"}]}'), "it gives: y"),
        ((b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],'
         b'"outputs": [{"name": "y", "parameters": {"classification": 2}}]}'), "not offered"),
        ((b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3],'
         b'"parameters": {"shared_memory_region": "r"}}]}'), "shared memory"),
        ((b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3],'
         b'"parameters": {"binary_data_size": 12}}]}'), "0 are left"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(judge: TestClient, body: bytes, said: str) -> None:
    """400 and `{"error": …}` that names what is wrong and where."""
    answer = judge.post("/v2/models/judge/infer", content=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "0", "1000", "9" * 30])
def test_a_header_length_that_lies_is_refused(judge: TestClient, length: str) -> None:
    """More than the body has, nothing, or no number at all."""
    headers = {"Inference-Header-Content-Length": length}
    answer = judge.post("/v2/models/judge/infer", content=b"{}", headers=headers)
    assert answer.status_code == 400


def test_raw_bytes_that_belong_to_nothing_are_refused(judge: TestClient) -> None:
    """A client that miscounts is told, instead of being answered about something else."""
    given = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
    answer = _binary(judge, {"inputs": [given]}, b"\0" * 16)
    assert answer.status_code == 400
    assert "name 12 raw bytes, the body has 16" in answer.json()["error"]


def test_a_body_that_is_too_large_is_refused_unread(judge: TestClient) -> None:
    """413 by its stated length, and as it comes in where it states none."""
    chunk = b" " * (8 * 2**20)

    def endless() -> Iterator[bytes]:
        for _ in range(MAX_BODY // len(chunk) + 1):
            yield chunk

    stated = judge.post("/v2/models/judge/infer", content=b"", headers={"Content-Length": str(MAX_BODY + 1)})
    unstated = judge.post("/v2/models/judge/infer", content=endless())
    assert stated.status_code == unstated.status_code == 413
    assert all("fewer rows" in one.json()["error"] for one in (stated, unstated))


def test_much_json_is_refused(judge: TestClient) -> None:
    """413 with the advice to send it raw: parsed numbers would take many times the memory."""
    answer = judge.post("/v2/models/judge/infer", content=b" " * (MAX_JSON + 1))
    assert answer.status_code == 413
    assert "binary form" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/judge/versions/9", 404),
        ("GET", "/v2/models/judge/what", 404),
        ("GET", "/v2/what", 404),
        ("GET", "/v2/health/what", 404),
        ("GET", "/v2/models/judge/infer", 405),
        ("POST", "/v2/models/judge", 405),
        ("POST", "/v2", 405),
        ("POST", "/v2/health/live", 405),
    ],
)
def test_what_is_not_there_says_so(judge: TestClient, method: str, path: str, status: int) -> None:
    """404 or 405 with `{"error": …}`, and what there is."""
    answer = judge.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_compressed_bodies_are_refused(judge: TestClient) -> None:
    """415: nothing is inflated for a stranger."""
    answer = judge.post("/v2/models/judge/infer", content=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_the_rest_of_the_api_is_as_it_was(judge: TestClient) -> None:
    """Paths beside `/v2` go to the application, also those that only begin alike."""
    assert judge.get("/healthz").json() == {"status": "ok"}
    assert judge.get("/v2x").headers["content-type"] == "application/problem+json"
