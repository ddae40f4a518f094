"""What a program written for Triton does, run in an environment with `tritonclient[http]` and nothing of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def given(value: np.ndarray[Any, Any], datatype: str, *, binary: bool) -> Any:  # noqa: ANN401 - InferInput
    """The input `x`."""
    made = triton.InferInput("x", list(value.shape), datatype)
    made.set_data_from_numpy(value, binary_data=binary)
    return made


class Calls:
    """Each public method is one thing that has to work."""

    def __init__(self, url: str, token: str) -> None:
        """A client with a few connections."""
        self._client = triton.InferenceServerClient(url, concurrency=4)
        self._token = token

    @property
    def _headers(self) -> dict[str, str]:
        """New ones each time: the client writes into what it is given."""
        return {"Authorization": f"Bearer {self._token}"}

    def health(self) -> None:
        """Live, ready, and ready for a model and a version."""
        assert self._client.is_server_live()
        assert self._client.is_server_ready()
        assert self._client.is_model_ready("mlp", headers=self._headers)
        assert self._client.is_model_ready("mlp", "0", headers=self._headers)
        assert not self._client.is_model_ready("absent", headers=self._headers)

    def metadata(self) -> None:
        """Of the server and of a model."""
        assert "binary_tensor_data" in self._client.get_server_metadata(headers=self._headers)["extensions"]
        about = self._client.get_model_metadata("mlp", headers=self._headers)
        assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}], about

    def json_and_binary(self) -> None:
        """The four ways of data in and out give one answer, and the id comes back."""
        x = np.random.default_rng(5).normal(size=(3, 16)).astype(np.float32)
        found = []
        for into in (True, False):
            for out in (True, False):
                wanted = [triton.InferRequestedOutput("y", binary_data=out)]
                answer = self._infer("mlp", x, "FP32", binary=into, outputs=wanted, request_id="7")
                assert answer.get_response()["id"] == "7"
                assert answer.get_response()["parameters"]["device"] == "cpu"
                found.append(answer.as_numpy("y"))
        assert found[0].shape == (3, 4)
        assert all(np.array_equal(found[0], one) for one in found)

    def every_width(self) -> None:
        """Half precision, double precision and 64-bit integers, to the last bit."""
        for model, datatype, dtype in (("half", "FP16", "f2"), ("double", "FP64", "f8"), ("whole", "INT64", "i8")):
            x = np.array([[1, 2, 3]], dtype) if dtype != "i8" else np.array([[1, 2**60, -(2**61)]], dtype)
            answer = self._infer(model, x, datatype, binary=True).as_numpy("y")
            assert answer.dtype == x.dtype
            assert np.array_equal(answer, x + x), answer

    def texts(self) -> None:
        """BYTES in both forms, with texts of several bytes a letter."""
        x = np.array(["引渠", "", "line\n1"], dtype=object)
        for binary in (True, False):
            answer = self._infer("echo", x, "BYTES", binary=binary).as_numpy("y")
            assert [one.decode() if isinstance(one, bytes) else one for one in answer] == x.tolist(), answer

    def asynchronous(self) -> None:
        """Forty requests over four connections, each answered with its own."""
        tensors = [np.full((1, 3), number, np.int64) for number in range(40)]
        asked = [
            self._client.async_infer("whole", [given(x, "INT64", binary=True)], headers=self._headers) for x in tensors
        ]
        for x, one in zip(tensors, asked, strict=True):
            assert np.array_equal(one.get_result().as_numpy("y"), x + x)

    def refusals(self) -> None:
        """What is wrong is told in the server's own words, and no token is no answer."""
        x = np.zeros((1, 16), np.float32)
        self._refused(lambda: self._infer("absent", x, "FP32", binary=True), "no model 'absent'")
        self._refused(lambda: self._infer("mlp", x[:, :3], "FP32", binary=True), "takes shape")
        self._refused(lambda: self._infer("mlp", x.astype(np.float64), "FP64", binary=True), "takes FP32")
        self._refused(lambda: self._client.infer("mlp", [given(x, "FP32", binary=True)]), "Log in first")

    def _infer(self, model: str, x: np.ndarray[Any, Any], datatype: str, *, binary: bool, **more: Any) -> Any:  # noqa: ANN401
        return self._client.infer(model, [given(x, datatype, binary=binary)], headers=self._headers, **more)

    def _refused(self, call: Callable[[], object], said: str) -> None:
        answer = "nothing was refused"
        try:
            call()
        except InferenceServerException as error:
            answer = str(error)
        assert said in answer, answer


def main() -> None:
    """Every call; a traceback for the first that fails."""
    calls = Calls(*sys.argv[1:])
    for name in [name for name in vars(Calls) if not name.startswith("_")]:
        getattr(calls, name)()
        print(f"{name}: as it should be")


if __name__ == "__main__":
    main()
