"""One activation check in a child process, with a limit for each part: a compile that hangs or crashes is a verdict."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from inference import (
    BackendNotInstalledError,
    Device,
    DeviceLostError,
    InferenceError,
    Options,
    UnsupportedModelError,
    artefacts,
    backend,
    engines,
)
from inference.check import verify
from inference.chip import Text
from inference.devices import named
from inference.model import load_model

TOTAL_S: Final = 300.0
"""Of one check, whatever its parts take."""
PARTS_S: Final[Mapping[str, float]] = {"look": 120.0, "prepare": 180.0, "run": 120.0}
"""Of finding the device, of making the model ready, of golden vectors and latency together."""
_LATENCY_S: Final = 20.0
_LAST_S: Final = 5.0
"""How long a child that has said all may take to end."""
_PR_SET_PDEATHSIG: Final = 1
"""Linux, prctl(2)."""
_TOP: Final = Path(__file__).resolve().parent.parent
_MOST_BYTES: Final = 2**20

_SAID: Final[Mapping[str, Text]] = {
    "look": Text("looking for the device", "查找设备"),
    "prepare": Text("making the model ready", "准备模型"),
    "run": Text("running golden vectors", "运行黄金向量"),
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be checked, and how this machine runs models."""

    store: str
    model: str
    """Its digest."""
    device: str
    """An id (`ascend:0`), or a vendor's name for its first one."""
    precision: str = "fp32"
    batch: int = 64
    p99_limit_s: float | None = None
    engines: dict[str, str] = {}
    """Vendor to interpreter, as for `engines.use`."""
    engine_memory_mb: int = 4096
    artefacts: str = ""
    """The folder of kept artefacts; empty: none are kept."""
    artefacts_bytes: int = 0


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    outcome: Literal["passed", "failed", "refused", "absent"]
    """`refused`: the device does not take the model. `absent`: there is no such device here."""
    device: str
    """The device's id; what was asked for, where it is absent."""
    name: str = ""
    backend: str = ""
    driver: str = ""
    precision: str = "fp32"
    failures: tuple[Text, ...] = ()
    golden: tuple[dict[str, Any], ...] = ()
    """Per output `name`, `passed`, `max_abs`, `share`, `rtol`, `atol`, `finite`; None where it cannot be said."""
    golden_made_by: str = ""
    latency: tuple[dict[str, int], ...] = ()
    """`batch`, `runs`, `p50_ns`, `p99_ns`."""
    placement: dict[str, Any] = {}
    """`nodes`, `on_device`, `fallen_back`, `reason`."""
    taken_s: float = 0.0


def examine(
    request: Request, *, total_s: float = TOTAL_S, parts_s: Mapping[str, float] = PARTS_S
) -> Examined:
    """Check in a child of ours. Never raises for what a model, a runtime or a device does: that is the verdict."""
    begun = time.monotonic()
    reading, told = os.pipe()
    try:
        # A group of its own: what a runtime has started goes with it.
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__, str(told), msgspec.json.encode(request).decode()], cwd=_TOP,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(told,),
            start_new_session=True,
        )
    finally:
        os.close(told)
    with os.fdopen(reading, "rb", buffering=0) as answers:
        said, failure = _heard(answers.fileno(), begun + total_s, parts_s)
    _end(child, 0.0 if failure else _LAST_S)
    taken_s = time.monotonic() - begun
    known = _known(said)
    if "outcome" in known:
        return msgspec.convert({"device": request.device, **known, "taken_s": taken_s}, Examined, strict=False)
    why = failure or _crashed(child.returncode, known.get("part", "look"))
    rest = {key: known[key] for key in ("device", "name", "backend", "driver") if key in known}
    return Examined(
        outcome="failed", **{"device": request.device, **rest}, precision=request.precision, failures=(why,),
        taken_s=taken_s,
    )


def _heard(reading: int, until: float, parts_s: Mapping[str, float]) -> tuple[bytes, Text | None]:
    """All that the child says, and which part took too long, if one did."""
    said, part, since = b"", "look", time.monotonic()
    while len(said) < _MOST_BYTES:
        limit = min(until, since + parts_s[part])
        ready, _, _ = select.select([reading], [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            whole = limit == until
            seconds = f"{limit - since:.0f}"
            of, left = _SAID[part], Text(" that were left of the check", "检查剩余的") if whole else Text("", "")
            return said, Text(
                f"{of.en} did not end within {seconds} s{left.en}; it was ended. See to the maker's compiler and "
                "driver, or take a smaller model",
                f"{of.zh}未在{left.zh} {seconds} 秒内结束，已终止。请检查厂商的编译器和驱动，或改用更小的模型",
            )
        block = os.read(reading, 65_536)
        if not block:
            return said, None
        said += block
        now = str(_known(said).get("part", part))
        if now != part and now in parts_s:
            part, since = now, time.monotonic()
    return said, None


def _known(said: bytes) -> dict[str, Any]:
    """The whole lines that were said, one upon the other."""
    known: dict[str, Any] = {}
    for line in said.splitlines(keepends=True):
        with suppress(ValueError):
            if line.endswith(b"\n"):
                known |= json.loads(line)
    return known


def _end(child: subprocess.Popen[bytes], within_s: float) -> None:
    """It and its group are gone; one that has said all ends by itself."""
    with suppress(subprocess.TimeoutExpired):
        child.wait(within_s)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _crashed(code: int, part: str) -> Text:
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    cause_zh = f"信号 {signal.Signals(-code).name}" if code < 0 else f"退出码 {code}"
    of = _SAID.get(part, _SAID["look"])
    return Text(
        f"{of.en} ended the process of the check ({cause}). See to the maker's runtime and driver before you try again",
        f"{of.zh}时检查进程异常终止（{cause_zh}）。重试之前请检查厂商的运行时和驱动",
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a verdict holds
    """As JSON holds it: None for what is not a number."""
    if isinstance(value, float) and value - value != 0.0:
        return None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


class _Child:
    """The side that runs the check and says how far it is."""

    def __init__(self, told: int, request: Request) -> None:
        self._told, self._request = told, request

    def say(self, **known: object) -> None:
        """One line. What is said last of a thing counts."""
        os.write(self._told, json.dumps(_plain(known)).encode() + b"\n")

    def run(self) -> None:
        """The whole check; what is wrong is said."""
        request = self._request
        _mortal()
        self.say(part="look")
        limits = {"open_s": PARTS_S["prepare"] - 10, "run_s": PARTS_S["run"] / 2}
        engines.use(request.engines, memory_mb=request.engine_memory_mb, **limits)
        artefacts.use(Path(request.artefacts) if request.artefacts else None, request.artefacts_bytes)
        try:
            found = named(request.device)
            if isinstance(found, Text):
                en, zh = f"{request.device} is not here: {found.en}", f"此处没有 {request.device}：{found.zh}"
                self.end("absent", Text(en, zh))
            else:
                self.say(device=found.id, name=found.name, backend=found.backend, driver=found.driver)
                self._on(found)
        finally:
            engines.stop()

    def _on(self, device: Device) -> None:
        request = self._request
        self.say(part="prepare")
        try:
            model = load_model(Path(request.store), request.model)
            made = backend(device.vendor).prepare(model, device, Options(precision=request.precision))
        except (UnsupportedModelError, BackendNotInstalledError) as error:
            en, zh = f"{device.id} does not take the model: {error}", f"{device.id} 不接受该模型：{error}"
            self.end("refused", Text(en, zh))
            return
        except (InferenceError, OSError) as error:
            lost = isinstance(error, DeviceLostError)
            en, zh = f"{device.id} does not make the model ready: {error}", f"{device.id} 无法准备该模型：{error}"
            self.end("absent" if lost else "failed", Text(en, zh))
            return
        self.say(part="run")
        verdict = verify(
            model, device, made, precision=request.precision, batch=request.batch, budget_s=_LATENCY_S,
            p99_limit_s=request.p99_limit_s,
        )
        self.say(
            golden=[asdict(one) for one in verdict.golden], golden_made_by=verdict.golden_made_by,
            latency=[asdict(one) for one in verdict.latency], placement=asdict(verdict.placement),
        )
        self.end("passed" if verdict.passed else "failed", *verdict.failures)
        made.close()

    def end(self, outcome: str, *failures: Text) -> None:
        """The last word."""
        self.say(outcome=outcome, failures=[list(one) for one in failures], precision=self._request.precision)


def _mortal() -> None:
    """End with the process that asked, and at a time of its own, whatever foreign code holds the interpreter."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.setitimer(signal.ITIMER_REAL, TOTAL_S + _LAST_S)


def main() -> None:
    """The child: says what it finds on the file descriptor that it is given."""
    _Child(int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Request)).run()


if __name__ == "__main__":
    main()
