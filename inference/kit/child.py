"""A model in a process of its own on a maker's host: so that a run can be cancelled, and a process killed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence  # noqa: UP035 - Python 3.8

import numpy as np

from . import Graph, LostError, RefusalError, RunError, Spec

if TYPE_CHECKING:
    from . import Feeds, Json, Target

GRACE_S = 2.0
"""How long a cancelled run may take to end before its process is killed."""
OPEN_S = 600.0


class Child:
    """The caller's side; one call at a time."""

    def __init__(self, command: Sequence[str], graph: Graph, run_s: float) -> None:
        """Start it and open the model. Raises RefusalError, LostError."""
        self._command, self._graph, self._run_s = list(command), graph, run_s
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-kit-")
        self._process: Optional[subprocess.Popen[bytes]] = None  # noqa: UP045 - Python 3.8
        self._answers = -1
        self._rest = b""
        try:
            self.open_again()
        except (RefusalError, RunError):
            self.close()
            raise

    def open_again(self, graph: Optional[Graph] = None) -> None:  # noqa: UP045 - Python 3.8
        """The same model, or another, in the process that lives or in a new one. Raises RefusalError, LostError."""
        if self.pid() is None:
            self._start()
        chosen = graph or self._graph
        path = Path(self._folder.name, "model.onnx")
        path.write_bytes(chosen.content)
        body = {"op": "open", "path": str(path), "name": chosen.name, "nodes": chosen.nodes,
                "inputs": [list(one) for one in chosen.inputs], "outputs": [list(one) for one in chosen.outputs]}
        self._ask(body, OPEN_S)

    def _start(self) -> None:
        self._gone()
        mine, theirs = os.pipe()
        # What a maker's library prints does not get into the answers.
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [*self._command, str(theirs)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=(theirs,),
        )  # fmt: skip
        os.close(theirs)
        self._answers, self._rest = mine, b""

    def pid(self) -> Optional[int]:  # noqa: UP045 - Python 3.8
        """Of the process, while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run(self, feeds: Feeds) -> Feeds:
        """Every output. Raises RunError, LostError."""
        given, answer = Path(self._folder.name, "feeds.npz"), Path(self._folder.name, "answers.npz")
        np.savez(str(given), **feeds)
        self._ask({"op": "run", "feeds": str(given), "answers": str(answer)}, self._run_s)
        with np.load(str(answer), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def _ask(self, body: Json, within_s: float) -> None:
        try:
            self._tell(body)
            answer = self._heard(within_s)
            if answer is None:
                self._give_up()
                message = f"no answer within {within_s:g} s"
                raise LostError(message)
        except (OSError, EOFError, ValueError) as error:
            raise LostError(self._reason()) from error
        if "refused" in answer:
            raise RefusalError(answer["refused"])
        if "failed" in answer:
            raise RunError(answer["failed"])

    def _tell(self, body: Json) -> None:
        if self._process is None or self._process.stdin is None:
            raise EOFError
        self._process.stdin.write(json.dumps(body).encode() + b"\n")
        self._process.stdin.flush()

    def _heard(self, within_s: float) -> Optional[Dict[str, Any]]:  # noqa: UP006, UP045 - Python 3.8
        """The next answer, None where there is none in time. EOFError where the process is gone."""
        until = time.monotonic() + within_s
        while b"\n" not in self._rest:
            if not select.select([self._answers], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            part = os.read(self._answers, 65536)
            if not part:
                raise EOFError
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        found: Dict[str, Any] = json.loads(line.decode())  # noqa: UP006 - Python 3.8
        return found

    def _give_up(self) -> None:
        """Cancel the run; a process that does not let go of it is killed."""
        self._tell({"op": "cancel"})
        if self._heard(GRACE_S) is None:
            self.kill()

    def _reason(self) -> str:
        process = self._process
        if process is None:
            return "there is no process"
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        status = process.poll()
        if status is not None and status < 0:
            return f"the process (pid {process.pid}) died of {signal.Signals(-status).name}"
        return f"the process (pid {process.pid}) ended with status {status}"

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _gone(self) -> None:
        self.kill()
        if self._process is not None:
            self._process.wait()
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()
            os.close(self._answers)
        self._process = None

    def close(self) -> None:
        """End it, and leave nothing behind. Safe to call twice."""
        self._gone()
        self._folder.cleanup()


class _Served:
    """The child's side: requests on standard input, answers through a pipe."""

    def __init__(self, target: Target, answers: int) -> None:
        self._target, self._answers = target, answers
        self._session: Any = None

    def serve(self) -> None:
        """Until the caller is gone."""
        for line in sys.stdin.buffer:
            body = json.loads(line.decode())
            if body["op"] == "cancel":
                if self._session is not None and self._session.order is not None:
                    self._session.order.cancel()
            elif body["op"] == "open":
                self._open(body)
            else:
                # A thread of its own, so that the order to cancel is heard.
                threading.Thread(target=self._run, args=(body,), daemon=True).start()

    def _say(self, answer: Json) -> None:
        os.write(self._answers, json.dumps(answer).encode() + b"\n")

    def _open(self, body: Json) -> None:
        def specs(key: str) -> Any:  # noqa: ANN401 - a tuple of Spec
            return tuple(Spec(name, dtype, tuple(shape)) for name, dtype, shape in body[key])

        content = Path(body["path"]).read_bytes()
        try:
            self._session = self._target.open(
                Graph(body["name"], content, specs("inputs"), specs("outputs"), body["nodes"])
            )
        except (RefusalError, RunError) as error:
            self._say({"refused": str(error)[:1000]})
            return
        self._say({})

    def _run(self, body: Json) -> None:
        with np.load(body["feeds"], allow_pickle=False) as stored:
            feeds = {name: stored[name] for name in stored.files}
        try:
            answer = self._session.run(feeds)
        except RunError as error:
            self._say({"failed": str(error)[:1000]})
            return
        np.savez(body["answers"], **answer)
        self._say({})


def serve(target: Target, answers: int) -> None:
    """Be the child. `answers`: the pipe to the caller, by its number."""
    _Served(target, answers).serve()
