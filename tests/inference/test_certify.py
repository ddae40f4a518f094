"""The activation check in its child: what passes, and that whatever a model, compiler or driver does is a verdict."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import onnx
import pytest

import inference
from inference import Model
from inference.certify import PARTS_S, TOTAL_S, Examined, Request, examine
from inference.chip import Probe
from inference.host import Host
from tests.app.scoring.test_devices import million_model, variable
from tests.inference import onnx_graphs as graphs
from tests.inference import vulkan
from tests.inference.plugins import needs_compiler
from tests.waiting import wait_until

Import = Callable[[onnx.ModelProto], Model]
Check = Callable[..., Examined]


@pytest.fixture
def check(imported: Import, store: Path) -> Check:
    """Check a model on a device, with what differs from the plainest check."""

    def do(proto: onnx.ModelProto, device: str, parts_s: dict[str, float] | None = None, **more: object) -> Examined:
        request = Request(store=str(store), model=imported(proto).digest, device=device)
        return examine(msgspec.structs.replace(request, **more), parts_s={**PARTS_S, **(parts_s or {})})

    return do


def test_a_right_model_passes_with_all_that_was_measured(check: Check) -> None:
    """Device, runtime, worst difference against its tolerance, placement, and p99 at 1 and at the wanted batch."""
    found = check(graphs.mlp(), "cpu", batch=8)
    assert (found.outcome, found.device, found.failures) == ("passed", "cpu", ())
    assert found.backend.startswith("onnxruntime ")
    assert [one["batch"] for one in found.latency] == [1, 8]
    assert all(0 < one["p50_ns"] <= one["p99_ns"] for one in found.latency)
    assert found.placement["nodes"] == found.placement["on_device"] == 3
    (golden,) = found.golden
    assert golden["passed"]
    assert 0 <= golden["share"] <= 1
    assert 0 < found.taken_s < TOTAL_S


@needs_compiler
def test_an_overflow_of_half_precision_is_red_on_its_golden_vectors(check: Check) -> None:
    """A model that is right in fp32 gives NaN in fp16: the sentence names the output and what to do."""
    assert check(million_model(), "simnpu:0").outcome == "passed"
    found = check(million_model(), "simnpu:0", precision="fp16")
    assert (found.outcome, found.precision) == ("failed", "fp16")
    (failure,) = found.failures
    assert failure.en.startswith("output 'score': not finite")
    assert "take fp32" in failure.en
    assert failure.zh.startswith("输出 'score'：不是有限值")
    assert found.golden[0]["finite"] is False
    assert found.golden[0]["max_abs"] is None


@needs_compiler
def test_what_a_device_does_not_take_is_a_refusal_that_names_the_node(check: Check) -> None:
    """It is another thing than a failure: the next device of an order may take it."""
    found = check(graphs.maps(), "simnpu:0")
    assert found.outcome == "refused"
    assert "simnpu:0 does not take the model" in found.failures[0].en
    assert found.driver.startswith("1.0.0, sha256:")


@needs_compiler
def test_a_compile_that_never_ends_is_ended(check: Check, store: Path) -> None:
    """The part that hangs is named, and nothing of it is left."""
    begun = time.monotonic()
    with variable("SIMNPU_FAULT", "hang"):
        found = check(graphs.mlp(), "simnpu:0", {"prepare": 1.5})
    assert found.outcome == "failed"
    assert (found.device, found.driver.partition(",")[0]) == ("simnpu:0", "1.0.0")
    assert found.failures[0].en.startswith("making the model ready did not end within 2 s")
    assert found.failures[0].zh.startswith("准备模型未在")
    assert time.monotonic() - begun < PARTS_S["prepare"]
    assert _checks(store) == []


@needs_compiler
def test_a_check_ends_with_the_process_that_asked_for_it(imported: Import, store: Path) -> None:
    """A worker that is killed leaves no compile behind that never ends."""
    request = msgspec.json.encode(Request(store=str(store), model=imported(graphs.mlp()).digest, device="simnpu:0"))
    script = ("import sys, msgspec; from inference.certify import Request, examine; "
              "examine(msgspec.json.decode(sys.argv[1], type=Request))")
    with variable("SIMNPU_FAULT", "hang"):
        asking = subprocess.Popen([sys.executable, "-c", script, request.decode()])
        wait_until(lambda: any(_hangs(one) for one in _checks(store)), 60)
        asking.kill()
        asking.wait()
    wait_until(lambda: not _checks(store))


@needs_compiler
def test_a_runtime_that_crashes_is_a_failure(check: Check) -> None:
    """It ends the child, with the signal in the sentence."""
    with variable("SIMNPU_FAULT", "segfault"):
        found = check(graphs.mlp(), "simnpu:0")
    assert found.outcome == "failed"
    assert "SIGSEGV" in found.failures[0].en
    assert "SIGSEGV" in found.failures[0].zh


def test_a_device_that_is_not_here_is_absent(check: Check) -> None:
    """With the reason, in both languages; so is a maker that nobody knows."""
    found = check(graphs.mlp(), "ascend:0")
    assert (found.outcome, found.device) == ("absent", "ascend:0")
    assert "no /dev/davinci*" in found.failures[0].en
    assert "没有 /dev/davinci*" in found.failures[0].zh
    assert check(graphs.mlp(), "nobody").outcome == "absent"


@needs_compiler
def test_another_driver_is_another_identity_in_process_and_in_an_engine(check: Check) -> None:
    """The version that a plugin states, and the digest of its library, whichever process loads it."""
    first = check(graphs.mlp(), "simnpu:0")
    with variable("SIMNPU_VERSION", "2.0.0"):
        second = check(graphs.mlp(), "simnpu:0")
        apart = check(graphs.mlp(), "simnpu:0", engines={"simnpu": ""})
    assert first.driver.partition(", ")[0] == "1.0.0"
    assert second.driver == apart.driver == first.driver.replace("1.0.0", "2.0.0")
    assert "sha256:" in first.driver
    assert "engine" in apart.backend


def test_the_kernel_says_which_driver_a_card_has(tmp_path: Path) -> None:
    """Name and version from sysfs, the digest of the source where there is no version; nothing for another maker's."""
    device = tmp_path / "sys/bus/pci/devices/0000:81:00.0"
    device.mkdir(parents=True)
    files = {"vendor": "0x19e5", "device": "0xd500", "class": "0x120000", "uevent": "DRIVER=dav\nX=1"}
    for name, text in files.items():
        (device / name).write_text(text)
    module = tmp_path / "sys/module/dav"
    module.mkdir(parents=True)
    host, probe = Host(tmp_path), Probe(nodes=("davinci{n}",), pci_vendor=0x19E5)
    assert host.driver(probe) == "dav"
    (module / "srcversion").write_text("ABCD\n")
    assert host.driver(probe) == "dav ABCD"
    (module / "version").write_text("24.1.rc2\n")
    assert host.driver(probe) == "dav 24.1.rc2"
    assert host.driver(Probe(nodes=("x{n}",), pci_vendor=0x1234)) == ""


def _checks(store: Path) -> list[str]:
    """Processes that check a model of this store."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes()
            if b"inference.certify\0" in words and str(store).encode() in words:
                found.append(path.name)
    return found


def _hangs(process: str) -> bool:
    """Whether it waits for a signal: the simulator's compiler does, for ever (pause, on ARM ppoll)."""
    path = Path("/proc") / process
    try:
        loaded = "libsimnpu" in (path / "maps").read_text()
        return loaded and (path / "syscall").read_text().split()[0] in {"34", "73"}
    except OSError:
        return False


@pytest.mark.skipif(inference.backend("webgpu").absent() is not None, reason=vulkan.MISSING)
def test_a_device_with_kernels_of_its_own_has_its_certificate(check: Check) -> None:
    """WebGPU on a software driver: real kernels, within the tolerance and not to the bit, and its plugin's version."""
    found = check(million_model(), "webgpu:0")
    assert (found.outcome, found.failures) == ("passed", ())
    assert found.placement["on_device"] == found.placement["nodes"]
    assert "sha256:" in found.driver
    assert 0 <= found.golden[0]["share"] <= 1
