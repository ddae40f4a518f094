"""The engine process: the same answers as in ours, and whatever happens to it costs the calls under way and no more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference import (
    DeviceLostError,
    InputError,
    Model,
    Options,
    Session,
    UnsupportedModelError,
    backend,
    engines,
)
from inference.adapters.engine_backend import EngineBackend
from inference.adapters.remote import PREFIX, SAID, Engine, Place, sweep
from inference.adapters.session import CheckedSession
from inference.vendors.cpu import SPEC
from inference.vendors.simnpu import PLUGIN
from tests.inference import onnx_graphs as graphs
from tests.inference.test_conformance import CASES, equal
from tests.waiting import wait_until

Import = Callable[[onnx.ModelProto], Model]
X = np.ones((3, 16), np.float32)
HERE = Place(Path(sys.executable))


@pytest.fixture
def own() -> Iterator[Callable[..., EngineBackend]]:
    """Engines of a test's own, stopped after it."""
    made: list[Engine] = []

    def start(place: Place, plugin: bool = False) -> EngineBackend:  # noqa: FBT001, FBT002
        made.append(Engine(place))
        return EngineBackend(PLUGIN.provider if plugin else SPEC, made[-1], PLUGIN if plugin else None)

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def used() -> Iterator[Callable[..., None]]:
    """Vendors that run in engines in this test, and the engines are gone after it."""

    def use(*vendors: str, **more: Any) -> None:  # noqa: ANN401
        engines.use(dict.fromkeys(vendors, ""), **more)

    yield use
    engines.stop()


def prepared(vendor: str, model: Model, options: Options | None = None) -> Session:
    """A session on the vendor's first device."""
    made = backend(vendor)
    return made.prepare(model, made.devices()[0], options or Options())


def engine_of(vendor: str) -> Engine:
    """The engine of a vendor in this test."""
    found = engines.engine(vendor)
    assert found is not None
    return found


def pid_of(vendor: str) -> int:
    """Its process."""
    found = engine_of(vendor).pid()
    assert found is not None
    return found


LONG = {"x": np.zeros((300, 300), np.float32), "n": np.array(10**7)}
"""Feeds of `slow` for hours."""


def slow() -> onnx.ModelProto:
    """A loop that multiplies a matrix `n` times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("MatMul", ["a", "a"], ["m"]),
         helper.make_node("Tanh", ["m"], ["a2"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, []),
         helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
         helper.make_tensor_value_info("a2", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "on", "x"], ["y"], body=body)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [300, 300]),
         helper.make_tensor_value_info("n", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [300, 300])],
        [helper.make_tensor("on", TensorProto.BOOL, [], [1])],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("case", CASES)
def test_the_answers_are_those_of_our_own_process(used: Callable[..., None], imported: Import, case: str) -> None:
    """Numbers, texts and maps cross the border unchanged, and a false batch is found on its other side."""
    model = imported(CASES[case].build())
    own = prepared("cpu", model)
    used("cpu")
    session = prepared("cpu", model)
    assert session.placement == own.placement
    outputs = session.run(CASES[case].feeds)
    assert list(outputs) == [spec.name for spec in model.outputs]
    for spec in model.outputs:
        equal(outputs[spec.name], CASES[case].expected[spec.name])


def test_a_device_says_that_it_is_an_engine_s(used: Callable[..., None]) -> None:
    """With the version of its runtime and of its Python."""
    used("cpu", "simnpu")
    (cpu,) = backend("cpu").devices()
    assert (cpu.id, cpu.backend.split(", ")[1:]) == ("cpu", ["engine", f"Python {sys.version.split()[0]}"])
    assert [one.id for one in backend("simnpu").devices()] == ["simnpu:0", "simnpu:1"]


def test_answers_stay_when_the_next_are_computed(used: Callable[..., None], imported: Import) -> None:
    """They are copied out of the memory that both sides see."""
    used("cpu")
    session = prepared("cpu", imported(graphs.mul()))
    assert isinstance(session, CheckedSession)
    assert session.batching.mode == "rows", "the trial's answers stayed, too"
    first = session.run({"x": np.ones((2, 3), np.float32)})["y"]
    session.run({"x": np.full((2, 3), 9, np.float32)})
    assert first.tolist() == [[2.0] * 3] * 2


def test_large_tensors_make_room_for_themselves(
    used: Callable[..., None], own: Callable[..., EngineBackend], imported: Import
) -> None:
    """The memory grows as it is needed, up to its limit; beyond it the call is refused and the next one runs."""
    used("cpu")
    session = prepared("cpu", imported(graphs.mul()))
    for rows in (1, 2_000_000, 3):
        found = session.run({"x": np.ones((rows, 3), np.float32)})["y"]
        assert found.shape == (rows, 3)
        assert found[-1].tolist() == [2.0] * 3
    tight = own(Place(Path(sys.executable), arena_mb=1))
    small = tight.prepare(imported(graphs.mul()), tight.devices()[0], Options())
    with pytest.raises(InputError, match="fewer rows"):
        small.run({"x": np.ones((200_000, 3), np.float32)})
    with pytest.raises(InputError, match="fewer rows"):
        small.run({"x": np.ones((80_000, 3), np.float32)})
    assert small.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (2, 3)


def test_models_run_at_once(used: Callable[..., None], imported: Import) -> None:
    """Two models, four threads: each has its own answers."""
    used("cpu")
    double, mlp = imported(graphs.mul()), imported(graphs.mlp())
    wrong: list[Any] = []

    def work(n: int) -> None:
        session = prepared("cpu", double if n % 2 else mlp)
        feeds = {"x": np.full((2, 3), n, np.float32)} if n % 2 else {"x": X * n}
        first = session.run(feeds)["y"]
        wrong.extend(n for _ in range(100) if not np.array_equal(session.run(feeds)["y"], first))
        if n % 2:
            wrong.extend(n for _ in [0] if first.tolist() != [[2.0 * n] * 3] * 2)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV])
def test_a_death_costs_the_call_under_way(used: Callable[..., None], imported: Import, sent: signal.Signals) -> None:
    """It is a lost device, by name; the next session has another process."""
    used("cpu")
    session = prepared("cpu", imported(slow()))
    first = pid_of("cpu")
    timer = threading.Timer(0.3, os.kill, (first, sent))
    timer.start()
    with pytest.raises(DeviceLostError, match=rf"pid {first}\) died of {sent.name}"):
        session.run(LONG)
    timer.join()
    again = prepared("cpu", imported(graphs.mlp()))
    assert again.run({"x": X})["y"].shape == (3, 4)
    assert pid_of("cpu") != first


def test_an_engine_that_keeps_dying_is_started_later_and_later(used: Callable[..., None], imported: Import) -> None:
    """At once, then after a second, two, four: a broken driver must not keep the box busy."""
    used("cpu")
    model = imported(graphs.mlp())
    for _ in range(2):
        prepared("cpu", model)
        os.kill(pid_of("cpu"), signal.SIGKILL)
        wait_until(lambda: engine_of("cpu").pid() is None)
    with pytest.raises(DeviceLostError, match=r"died 2 times, last: .*SIGKILL; it is started again in 1 s"):
        EngineBackend(SPEC, engine_of("cpu")).prepare(model, backend_device(), Options())


def backend_device() -> Any:  # noqa: ANN401
    """The CPU as our own process sees it."""
    from inference.adapters.ort import OrtBackend  # noqa: PLC0415

    return OrtBackend(SPEC).devices()[0]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_does_not_end_is_given_up(used: Callable[..., None], imported: Import, stopped: bool) -> None:  # noqa: FBT001
    """It is cancelled, and others of the engine go on; an engine that does not even listen is killed."""
    used("cpu", run_s=0.5)
    session, other = prepared("cpu", imported(slow())), prepared("cpu", imported(graphs.mlp()))
    first = pid_of("cpu")
    if stopped:
        os.kill(first, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(DeviceLostError, match=r"did not answer within 0\.5 s"):
        session.run(LONG)
    assert time.monotonic() - begun < 10
    if stopped:
        assert engine_of("cpu").pid() is None
    else:
        assert pid_of("cpu") == first
        assert other.run({"x": X})["y"].shape == (3, 4)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("create", UnsupportedModelError, "SimNPU"),
        ("compile", UnsupportedModelError, "SimNPU"),
        ("run", DeviceLostError, "SimNPU"),
        ("segfault", DeviceLostError, "died of SIGSEGV"),
        ("hang", UnsupportedModelError, "did not end within 2 s; the engine was stopped"),
    ],
)
def test_a_broken_plugin_is_contained(
    used: Callable[..., None], own: Callable[..., EngineBackend], imported: Import, fault: str,
    error: type[Exception], said: str,
) -> None:
    """Whatever a maker's library does at any step, it is said by name, and this process lives."""
    used("simnpu", open_s=2.0)
    place = Place(Path(sys.executable), {"SIMNPU_FAULT": fault}, open_s=2.0)
    broken = own(place, plugin=True)
    with pytest.raises(error, match=said):
        broken.prepare(imported(graphs.mlp()), broken.devices()[0], Options()).run({"x": X})
    assert prepared("simnpu", imported(graphs.mlp())).run({"x": X})["y"].shape == (3, 4)


def test_nodes_that_a_plugin_leaves_are_refused(own: Callable[..., EngineBackend], imported: Import) -> None:
    """The CPU is not used in its place: neither by the runtime nor by us."""
    made = own(HERE, plugin=True)
    made.spec = replace(PLUGIN.provider, options={"ops": "MatMul"})
    with pytest.raises(UnsupportedModelError, match="CPU"):
        made.prepare(imported(graphs.mlp()), made.devices()[0], Options())


def test_an_engine_that_eats_memory_is_ended(own: Callable[..., EngineBackend], imported: Import) -> None:
    """It says so, and how much it was allowed."""
    place = Place(Path(sys.executable), memory_mb=300)
    made = own(place)
    session = made.prepare(imported(graphs.mul()), made.devices()[0], Options())
    with pytest.raises(DeviceLostError, match=r"took more than 300 MB and was ended"):
        session.run({"x": np.ones((30_000_000, 3), np.float32)})


def test_sessions_come_and_go_in_the_same_memory(used: Callable[..., None], imported: Import) -> None:
    """A thousand times made ready and closed: the engine holds none of them, and has not grown by more than noise."""
    used("cpu")
    model, sizes = imported(graphs.mul()), []
    for _ in range(4):
        for _ in range(250):
            prepared("cpu", model).close()
        sizes.append(pinged("cpu")["rss"])
    assert wait_until(lambda: pinged("cpu")["sessions"] == 0)
    assert sizes[-1] - sizes[0] < 8 * 2**20


def pinged(vendor: str) -> dict[str, Any]:
    """What the engine says of itself."""
    lane = engine_of(vendor).lane()
    try:
        return lane.call({"op": "ping"}, 10)
    finally:
        lane.close()


def test_nothing_is_left(used: Callable[..., None], imported: Import) -> None:
    """Neither process nor folder, after a stop and after a kill."""
    used("cpu")
    for how in ("stop", "kill"):
        prepared("cpu", imported(graphs.mlp()))
        pid = pid_of("cpu")
        process = engine_of("cpu")._process  # noqa: SLF001 - its folder
        assert process is not None
        folder = Path(process.address).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: engine_of("cpu").pid() is None)
        engine_of("cpu").stop()
        assert not folder.exists()
        assert not Path(f"/proc/{pid}").exists()


def test_an_engine_dies_with_its_caller(imported: Import) -> None:
    """Also with one that is killed: nobody would ever stop it."""
    model = imported(graphs.mlp())
    program = (
        "import sys, time\nfrom inference import engines, Options, backend\nfrom inference.model import load_model\n"
        "from pathlib import Path\nengines.use({'cpu': ''})\n"
        f"model = load_model(Path({str(model.path.parents[3])!r}), {model.digest!r})\n"
        "b = backend('cpu'); s = b.prepare(model, b.devices()[0], Options())\n"
        "print(engines.engine('cpu').pid(), flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        engine = int(caller.stdout.readline())
        caller.kill()
    wait_until(lambda: not Path(f"/proc/{engine}").exists())


def test_an_engine_whose_runtime_never_lets_go_dies_with_its_caller(tmp_path: Path) -> None:
    """The kernel ends it: a library that hangs with the interpreter's lock in its hand leaves no thread to notice."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    (runtime / "onnxruntime.py").write_text(
        "import ctypes, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'held')!r}).touch()\n"
        "ctypes.PyDLL(None).pause()\n"
    )  # fmt: skip
    program = (
        "import sys\nfrom pathlib import Path\nfrom inference.adapters.remote import Engine, Place\n"
        f"engine = Engine(Place(Path(sys.executable), {{'PYTHONPATH': {str(runtime)!r}}}))\n"
        "lane = engine.lane()\nprint(engine.pid(), flush=True)\n"
        "lane.call({'op': 'runtime', 'driver': 'ort'}, 600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        engine = int(caller.stdout.readline())
        try:
            wait_until((tmp_path / "held").exists)
        finally:
            caller.kill()
    try:
        wait_until(lambda: not Path(f"/proc/{engine}").exists())
    finally:
        with suppress(ProcessLookupError):
            os.kill(engine, signal.SIGKILL)


def test_what_a_killed_caller_leaves_is_swept(used: Callable[..., None]) -> None:
    """A folder that nobody holds any more goes; one that is in use, or was made just now, stays."""
    used("cpu")
    assert backend("cpu").devices()
    process = engine_of("cpu")._process  # noqa: SLF001 - its folder
    assert process is not None
    held = Path(process.address).parent
    left, fresh = (Path(tempfile.mkdtemp(prefix=PREFIX)) for _ in range(2))
    for one in (left, fresh):
        (one / SAID).touch()
    for one in (left, held):
        os.utime(one / SAID, (1, 1))
    sweep()
    assert [one.exists() for one in (left, held, fresh)] == [False, True, True]
    shutil.rmtree(fresh)


@pytest.mark.parametrize(("python", "said"), [("/nonexistent/python", "cannot be started"), ("/bin/false", "status 1")])
def test_an_interpreter_that_is_none_is_an_absent_device(python: str, said: str) -> None:
    """By name; no device is listed, and nothing stands in for it."""
    made = EngineBackend(SPEC, Engine(Place(Path(python))))
    absent = made.absent()
    assert made.devices() == ()
    assert absent is not None
    assert said in absent.reason
    assert python in absent.reason
