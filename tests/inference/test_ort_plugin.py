"""Provider plugins: what is loaded, where nodes run, what is refused; SimNPU is a real library, loaded for real."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

import inference
from inference import BackendNotInstalledError, DeviceLostError, Options, UnsupportedModelError, simnpu
from inference.adapters import ort
from inference.adapters.chip import ChipBackend
from inference.adapters.ort_plugin import PluginBackend
from inference.adapters.plugin_probe import Wanted
from inference.adapters.tensors import finite
from inference.chip import Text
from inference.devices import choose
from inference.vendors.moorethreads import CHIP as MOORE_THREADS
from inference.vendors.simnpu import PLUGIN
from tests.inference import onnx_graphs as graphs
from tests.inference.machines import Machine, described
from tests.inference.plugins import crashing, module, needs_compiler, told

if TYPE_CHECKING:
    import onnx

    from inference import Model

pytestmark = needs_compiler
X: Final = np.random.default_rng(5).normal(size=(3, 16)).astype(np.float32)
Importer = Callable[["onnx.ModelProto"], "Model"]


def on_cpu(model: Model) -> np.ndarray[Any, Any]:
    """The answer of the CPU."""
    return answer(choose(["cpu"], model).session)


def answer(session: inference.Session, rows: int = 3) -> np.ndarray[Any, Any]:
    """What it gives for the first rows of X."""
    given: np.ndarray[Any, Any] = session.run({"x": X[:rows]})["y"]
    return given


def prepared(made: PluginBackend, model: Model, number: int = 0, **options: Any) -> inference.Session:  # noqa: ANN401
    """A session on one of its devices."""
    return made.prepare(model, made.devices()[number], Options(**options))


def test_two_devices_answer_as_the_cpu_does(imported: Importer) -> None:
    """Every node runs on the simulator, and both devices agree with the CPU to rounding."""
    model = imported(graphs.mlp())
    made = inference.backend("simnpu")
    assert [device.id for device in made.devices()] == ["simnpu:0", "simnpu:1"]
    assert {device.evidence for device in made.devices()} == {"simulated"}
    for device in made.devices():
        session = made.prepare(model, device, Options())
        assert (session.placement.on_device, session.placement.fallen_back) == (3, ())
        np.testing.assert_allclose(answer(session), on_cpu(model), atol=1e-4)


def test_half_precision_is_asked_for_and_is_less_exact(imported: Importer) -> None:
    """fp16 reaches the provider: the answer differs from the CPU's, within what half precision allows."""
    model = imported(graphs.mlp())
    off = np.abs(answer(prepared(told(), model, precision="fp16")) - on_cpu(model)).max()
    assert 1e-4 < off < 5e-2
    with pytest.raises(UnsupportedModelError, match="can be asked for fp32, fp16; int8 must be in the model"):
        prepared(told(), model, precision="int8")


def test_overflow_of_half_precision_is_found(imported: Importer) -> None:
    """A sum beyond 65504 becomes infinite and its difference NaN on the device, where the CPU has a number."""
    model = imported(graphs.overflowing())
    assert finite(choose(["cpu"], model).session.run({"x": X})) == {"y": True}
    assert finite(prepared(told(), model).run({"x": X})) == {"y": True}
    assert finite(prepared(told(), model, precision="fp16").run({"x": X})) == {"y": False}


@pytest.mark.parametrize(("options", "says"), [
    ({"nonsense": "1"}, "Unknown provider option 'nonsense'"),
    ({"static_only": "yes"}, "static_only does not take 'yes'"),
    ({"ops": "Conv"}, "ops does not take 'Conv'"),
])
def test_an_option_is_never_ignored(options: dict[str, str], says: str, imported: Importer) -> None:
    """What the provider does not know, it refuses, and the refusal is told without the runtime's C++."""
    with pytest.raises(UnsupportedModelError, match=says) as caught:
        prepared(told(**options), imported(graphs.mlp()))
    assert "::" not in str(caught.value)


def test_static_shapes_need_a_batch(imported: Importer) -> None:
    """A provider without free dimensions refuses the free batch, and takes the model with a batch of two."""
    model = imported(graphs.mlp())
    with pytest.raises(UnsupportedModelError, match="takes 0 of 3 nodes and leaves: Gemm"):
        prepared(told(static_only="1"), model)
    session = prepared(told(static_only="1"), model, batch=2)
    np.testing.assert_allclose(answer(session, 2), on_cpu(model)[:2], atol=1e-4)


def test_a_fault_at_each_stage_says_what_broke(imported: Importer) -> None:
    """The driver and the compiler refuse the model; at run the device is lost, so that another is prepared."""
    model = imported(graphs.mlp())
    with pytest.raises(UnsupportedModelError, match="driver fault: the device does not open"):
        prepared(told(fault="create"), model)
    with pytest.raises(UnsupportedModelError, match="compiler error: no tiling fits"):
        prepared(told(fault="compile"), model)
    with pytest.raises(DeviceLostError, match="device fault: no answer"):
        prepared(told(fault="run"), model, batch=3).run({"x": X})


def test_compiled_ahead_of_time_it_answers_the_same(tmp_path: Path, imported: Importer) -> None:
    """The artefact runs on the device with the compiled precision; the CPU refuses it; a damaged one is refused."""
    model, made = imported(graphs.mlp()), told()
    device = made.devices()[0]
    artefact = made.compile(model, device, Options(precision="fp16"), tmp_path / "mlp.ctx.onnx")
    assert [path.name for path in tmp_path.glob("*.ctx*")] == ["mlp.ctx.onnx"]
    session = made.load(artefact, model, device, Options())
    direct = answer(prepared(made, model, precision="fp16"))
    np.testing.assert_array_equal(answer(session), direct)
    with pytest.raises(Exception, match=r"EPContext"):
        ort.runtime().InferenceSession(str(artefact), providers=[ort.CPU])
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(artefact.read_bytes().replace(b"SIMNPU1", b"SIMNPU9"))
    with pytest.raises(UnsupportedModelError, match="compile it again"):
        made.load(damaged, model, device, Options())


def test_a_compile_that_fails_leaves_nothing(tmp_path: Path, imported: Importer) -> None:
    """There is no artefact after an error, whole or in part."""
    made = told(fault="compile")
    with pytest.raises(UnsupportedModelError, match="no tiling fits"):
        made.compile(imported(graphs.mlp()), made.devices()[0], Options(), tmp_path / "out.onnx")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out.onnx")]
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(IsADirectoryError):
        told().compile(imported(graphs.mlp()), made.devices()[0], Options(), taken)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("taken.")]


def test_it_is_loaded_once_and_unloaded_when_nothing_runs(imported: Importer) -> None:
    """Two backends of one library see its devices once; it stays while a session is open."""
    session = prepared(told(), imported(graphs.mlp()))
    assert len(told(fault="none").devices()) == 2
    with pytest.raises(BackendNotInstalledError, match=r"1 session\(s\) .* are open"):
        told().unload()
    session.close()
    told().unload()
    assert not [one for one in ort.runtime().get_ep_devices() if one.ep_name == simnpu.NAME]
    assert len(told().devices()) == 2


def with_library(path: Path) -> PluginBackend:
    """SimNPU's vendor data with another library."""
    return PluginBackend(replace(PLUGIN, wanted=lambda: Wanted(simnpu.NAME, library=str(path))))


def test_a_library_that_crashes_is_absent_and_we_live(tmp_path: Path) -> None:
    """It kills the child that tries it; here its devices are absent with the reason, in both languages."""
    made = with_library(crashing(tmp_path))
    assert made.devices() == ()
    absent = made.absent()
    assert absent is not None
    assert "libbad.so crashes the process that loads it (signal SIGSEGV)" in absent.reason
    assert "崩溃（信号 SIGSEGV）" in absent.reason_zh


def test_what_is_no_library_is_named(tmp_path: Path) -> None:
    """A file of another kind, and one that is not there, are told apart from a crash."""
    wrong = tmp_path / "libwrong.so"
    wrong.write_text("no library")
    expected = {wrong: "libwrong.so cannot be loaded: .*file too short", tmp_path / "none.so": "none.so.*No such file"}
    for path, says in expected.items():
        absent = with_library(path).absent()
        assert absent is not None
        assert "crashes" not in absent.reason
        assert re.search(says, absent.reason)


def wrapped(
    machine: Machine, *, provider: str = simnpu.NAME, options: Mapping[str, str] = MappingProxyType({})
) -> ChipBackend:
    """Moore Threads' chip on a machine that has its nodes, and SimNPU where its plugin would be."""
    machine.hardware(described()["moorethreads"])
    module(machine.modules, "onnxruntime_like_musa", provider)
    route = replace(
        MOORE_THREADS.routes[0], target=simnpu.NAME, module="onnxruntime_like_musa", libraries=(), onnxruntime=None,
        precisions=None, options=options,
    )
    return ChipBackend(replace(MOORE_THREADS, routes=(route,)), machine.host)


def test_a_maker_s_module_takes_this_very_path(tmp_path: Path, imported: Importer) -> None:
    """A package with get_library_path and get_ep_name is a device per card, on which a model runs."""
    made = wrapped(Machine(tmp_path))
    devices = made.devices()
    assert made.absent() is None
    assert [device.id for device in devices] == ["moorethreads:0", "moorethreads:1"]
    assert devices[0].evidence == "documented"
    model = imported(graphs.mlp())
    session = made.prepare(model, devices[1], Options())
    assert session.placement.on_device == 3
    np.testing.assert_allclose(answer(session), on_cpu(model), atol=1e-4)


def test_one_device_for_all_cards_is_told_the_number(tmp_path: Path, imported: Importer) -> None:
    """Where a maker's option takes the card's number it reaches the provider, which here knows no such option."""
    made = wrapped(Machine(tmp_path), options={"device": "device_id"})
    with pytest.raises(UnsupportedModelError, match="Unknown provider option 'device_id'"):
        made.prepare(imported(graphs.mlp()), made.devices()[1], Options())


def test_a_module_of_another_provider_is_refused(tmp_path: Path) -> None:
    """A package that offers something else than the vendor file says is not taken."""
    absent = wrapped(Machine(tmp_path), provider="OtherExecutionProvider").absent()
    assert absent is not None
    assert f"it offers OtherExecutionProvider, not {simnpu.NAME}" in absent.reason


def test_a_device_that_is_not_there_is_not_replaced(imported: Importer) -> None:
    """A third device of two is lost, not the CPU in its place; the order goes on and says so."""
    model, made = imported(graphs.mlp()), told()
    third = replace(made.devices()[0], id="simnpu:2")
    with pytest.raises(DeviceLostError, match="simnpu:2 is not there"):
        made.prepare(model, third, Options())
    choice = choose(["simnpu:2", "cpu"], model)
    assert (choice.requested, choice.device.id) == ("simnpu:2", "cpu")


def test_without_a_device_the_vendor_says_what_to_do() -> None:
    """A library that loads and lists no device of that name: the reason is the vendor's own, or what the child saw."""
    wanted = Wanted("NoSuchExecutionProvider", library=str(simnpu.library()))
    absent = PluginBackend(replace(PLUGIN, wanted=lambda: wanted, no_device=Text("plug it in", "请插上"))).absent()
    assert absent is not None
    assert (absent.reason, absent.reason_zh) == ("plug it in", "请插上")
    absent = PluginBackend(replace(PLUGIN, wanted=lambda: wanted, no_device=None)).absent()
    assert absent is not None
    assert absent.reason.endswith("was loaded and offers no device of NoSuchExecutionProvider")


def test_a_failure_is_not_believed_for_ever(tmp_path: Path) -> None:
    """A library that is put in place of one that did not load is tried at once."""
    path = tmp_path / "lib.so"
    path.write_text("no library")
    assert with_library(path).devices() == ()
    path.unlink()
    shutil.copy(simnpu.library(), path)
    assert len(with_library(path).devices()) >= 2
    with_library(path).unload()
