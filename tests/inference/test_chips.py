"""Each maker's accelerators on machines made of files: found by their nodes, or absent for a reason that is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from packaging.specifiers import SpecifierSet

import inference
from inference import DeviceLostError, Options, UnsupportedModelError
from inference.adapters import ort
from inference.adapters.chip import ChipBackend, chips, kit, provider
from inference.adapters.readable import readable
from inference.chip import Chip, Route
from inference.devices import choose, devices
from inference.host import Card
from tests.inference import onnx_graphs as graphs
from tests.inference.machines import Machine, described
from tests.inference.mocked import Mocked

if TYPE_CHECKING:
    from inference import Model

CHIPS: Final = {chip.vendor: chip for chip in chips()}
SAID: Final = described()
EACH: Final = pytest.mark.parametrize("vendor", sorted(CHIPS))
STOCK: Final = next((name for name in ort.runtime().get_available_providers() if name != ort.CPU), None)
"""A provider that the ONNX Runtime here was built with and that runs no ordinary node."""
needs_stock = pytest.mark.skipif(STOCK is None, reason="this ONNX Runtime was built with the CPU's provider alone")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without accelerators."""
    return Machine(tmp_path)


def reason(vendor: str, machine: Machine) -> str:
    """Why there is no device, in English; there must be none, and a reason in Chinese, too."""
    made = ChipBackend(CHIPS[vendor], machine.host)
    assert made.devices() == ()
    absent = made.absent()
    assert absent is not None
    assert (absent.vendor, absent.evidence) == (vendor, "documented")
    assert any("\u4e00" <= letter <= "\u9fff" for letter in absent.reason_zh)
    return absent.reason


def test_every_chip_has_a_machine_to_be_tried_on() -> None:
    """A new vendor file without its test data fails here, and so does data without a vendor file."""
    assert len(CHIPS) >= 11
    assert sorted(SAID) == sorted(CHIPS)
    assert all(isinstance(inference.backend(vendor), ChipBackend) for vendor in CHIPS)


@EACH
def test_without_a_card_the_node_is_named(vendor: str, machine: Machine) -> None:
    """The reason says which device node and which PCI vendor were looked for."""
    said = reason(vendor, machine)
    probe = CHIPS[vendor].probe
    assert said.startswith(f"no /dev/{probe.nodes[0].replace('{n}', '*')}")
    assert ("PCI" in said) == (probe.pci_vendor is not None)
    assert probe.pci_vendor is None or f"{probe.pci_vendor:04x}" in said
    assert len(said) <= 60, "it has to fit one line of a table"


@EACH
def test_what_only_looks_like_a_card_is_none(vendor: str, machine: Machine) -> None:
    """Control nodes, other makers' render nodes and the maker's other devices on PCI make no card."""
    machine.hardware(SAID[vendor]["strangers"])
    assert machine.host.cards(CHIPS[vendor].probe) == ()
    assert reason(vendor, machine).startswith("no /dev/")


@pytest.mark.parametrize("vendor", sorted(v for v in SAID if "pci" in SAID[v]))
def test_a_card_without_its_node_is_seen_on_pci(vendor: str, machine: Machine) -> None:
    """A missing driver or a container that was not given the card: the reason names the card and the override."""
    machine.pci(SAID[vendor])
    said = reason(vendor, machine)
    vendor_id = CHIPS[vendor].probe.pci_vendor
    assert f"PCI shows 0000:81:00.0 ({vendor_id:04x}:" in said
    assert f"deploy/compose.{vendor}.yml" in said


@pytest.mark.parametrize(
    ("vendor", "node"), [(vendor, node) for vendor, chip in CHIPS.items() for node in chip.probe.beside]
)
def test_a_node_beside_the_card_is_missed(vendor: str, node: str, machine: Machine) -> None:
    """Without the driver's control node the card cannot be opened; that node and no other is named."""
    machine.hardware(SAID[vendor])
    (machine.root / "dev" / node).unlink()
    said = reason(vendor, machine)
    assert f", but /dev/{node} is not" in said
    assert SAID[vendor]["cards"][0] in said


@EACH
def test_every_card_is_counted(vendor: str, machine: Machine) -> None:
    """The cards are numbered from 0 in the order of their nodes."""
    machine.hardware(SAID[vendor])
    cards = machine.host.cards(CHIPS[vendor].probe)
    assert cards == tuple(Card(ordinal, node) for ordinal, node in enumerate(SAID[vendor]["cards"]))


@EACH
def test_a_card_without_its_runtime_says_which_and_how(vendor: str, machine: Machine) -> None:
    """The reason names the card, what is missing of the best route, and the recipe; nothing is prepared."""
    machine.hardware(SAID[vendor])
    said = reason(vendor, machine)
    assert said.startswith(f"{SAID[vendor]['cards'][0]} is there")
    for part in SAID[vendor]["without_runtime"]:
        assert part in said
    routes = CHIPS[vendor].routes
    best = next((route for route in routes if route.adapted), routes[0])
    assert best.name in said
    assert all(line in said for line in best.recipe)


@EACH
def test_a_runtime_that_is_there_is_told_what_it_still_wants(vendor: str, machine: Machine) -> None:
    """Card and libraries are there: the reason names the engine, or is this version's. No module is imported for it."""
    machine.hardware(SAID[vendor])
    machine.runtime(SAID[vendor])
    assert SAID[vendor]["with_runtime"] in reason(vendor, machine)


@EACH
def test_a_chip_that_is_absent_prepares_nothing(
    vendor: str, machine: Machine, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """A session asked for by name is refused with the reason, and never made on the CPU instead."""
    machine.hardware(SAID[vendor])
    made = ChipBackend(CHIPS[vendor], machine.host)
    model = imported(graphs.mul())
    device = inference.Device(f"{vendor}:0", vendor, "", "", "documented")
    with pytest.raises(DeviceLostError, match="is there, but"):
        made.prepare(model, device, Options())


def test_a_pipeline_that_wants_it_is_told_why(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """On this machine without accelerators the order goes on to the next device, and the reason is kept."""
    wanted = [f"{vendor}:0" for vendor in CHIPS if not inference.backend(vendor).devices()]
    _, device, refusals = choose([*wanted, "cpu"], imported(graphs.mul()))
    assert device.id == "cpu"
    assert [each.device for each in refusals] == wanted
    assert all("/dev/" in each.reason for each in refusals)


def test_all_makers_are_looked_for_on_the_machine_given(machine: Machine) -> None:
    """A machine with cards of two makers: each has its own reason, the others have theirs, and the CPU stays."""
    for vendor in ("ascend", "metax"):
        machine.hardware(SAID[vendor])
    found, missing = devices(machine.host)
    reasons = {absent.vendor: absent.reason for absent in missing}
    assert "cpu" in {device.id for device in found}
    assert not {device.vendor for device in found} & CHIPS.keys()
    assert reasons.keys() >= CHIPS.keys()
    assert reasons.keys() - CHIPS.keys() <= {"openvino", "openvino_native", "paddle", "rknnsim", "simnpu", "webgpu"}
    assert reasons["ascend"].startswith("/dev/davinci0 is there")
    assert reasons["metax"].startswith("/dev/dri/renderD129 is there")
    assert reasons["hygon"].startswith("no /dev/dri/renderD*")


def complete(chip: Chip, **changes: Any) -> Chip:  # noqa: ANN401 - fields of a Route
    """The chip with a route that has all its parts here: the provider is one that this ONNX Runtime was built with."""
    assert STOCK is not None
    parts: dict[str, Any] = {"target": STOCK, "python": None, "numpy": None, "libraries": (), **changes}
    return replace(chip, routes=(replace(chip.routes[0], **parts),))


@needs_stock
def test_each_card_of_a_complete_route_is_a_device(machine: Machine) -> None:
    """Two cards, two ids, with the provider and its runtime in the backend's name."""
    machine.hardware(SAID["ascend"])
    made = ChipBackend(complete(CHIPS["ascend"]), machine.host)
    assert made.absent() is None
    assert [device.id for device in made.devices()] == ["ascend:0", "ascend:1"]
    assert [device.name for device in made.devices()] == [f"Huawei Ascend, /dev/davinci{n}" for n in (0, 1)]
    assert all(str(STOCK) in device.backend and device.evidence == "documented" for device in made.devices())


@needs_stock
def test_a_provider_that_runs_no_node_makes_no_session(
    machine: Machine, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """The provider is accepted and claims nothing: the model is refused instead of computed on the CPU."""
    machine.hardware(SAID["ascend"])
    made = ChipBackend(complete(CHIPS["ascend"]), machine.host)
    with pytest.raises(UnsupportedModelError, match=r"(?i)cpu"):
        made.prepare(imported(graphs.mul()), made.devices()[1], Options())


@needs_stock
@pytest.mark.parametrize("changes", [{"opset": (None, 12)}, {"opset": (18, None)}, {"ir": 7}], ids=str)
def test_a_model_beyond_the_ceilings_is_converted(
    changes: dict[str, Any], machine: Machine, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """To the nearest that the runtime reads, which then has its own say; the stored model stays as it is."""
    machine.hardware(SAID["ascend"])
    route = replace(complete(CHIPS["ascend"]).routes[0], **changes)
    model = imported(graphs.mul(17, 8))
    before = model.path.read_bytes()
    with readable(model, route) as given:
        found = onnx.load_model(given.path)
        assert (given.opset, given.ir_version) == (found.opset_import[0].version, found.ir_version)
        assert given.opset == next((one for one in changes.get("opset", ()) if one), 17)
        assert given.ir_version <= changes.get("ir", 8)
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert choose(["cpu"], given).session.run({"x": x})["y"].tolist() == (2 * x).tolist()
    assert model.path.read_bytes() == before
    assert not given.path.exists()
    made = ChipBackend(complete(CHIPS["ascend"], **changes), machine.host)
    with pytest.raises(UnsupportedModelError, match=r"(?i)cpu"):
        made.prepare(model, made.devices()[0], Options())


@needs_stock
def test_a_model_that_cannot_be_converted_or_asked_for_is_refused(
    machine: Machine, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """With what the route reads and what the model has; and a precision that nobody can ask for."""
    machine.hardware(SAID["ascend"])
    gelu = helper.make_node("Gelu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("x", "y")]
    graph = helper.make_graph([gelu], "g", value[:1], value[1:])
    model = imported(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    made = ChipBackend(complete(CHIPS["ascend"], opset=(None, 17)), machine.host)
    with pytest.raises(UnsupportedModelError, match=r"reads opset 1 to 17.*the model has opset 20, IR version 9, and"):
        made.prepare(model, made.devices()[0], Options())
    made = ChipBackend(complete(CHIPS["ascend"], precisions={"fp16": ({},)}), machine.host)
    with pytest.raises(UnsupportedModelError, match="fp32 must be in the model itself"):
        made.prepare(imported(graphs.mul(17, 8)), made.devices()[0], Options())


@needs_stock
def test_a_library_that_is_missing_undoes_a_complete_route(machine: Machine) -> None:
    """A provider is listed also where its libraries are not: the list alone makes no device."""
    machine.hardware(SAID["ascend"])
    libraries = CHIPS["ascend"].routes[0].libraries
    made = ChipBackend(complete(CHIPS["ascend"], libraries=libraries), machine.host)
    assert made.devices() == ()
    machine.runtime(SAID["ascend"])
    assert len(made.devices()) == 2


def test_the_card_and_the_precision_reach_the_provider() -> None:
    """The ordinal goes where the maker's options want it; fp32 is asked for by the names of two versions."""
    chip = CHIPS["ascend"]
    told = provider(chip, chip.routes[0], inference.Device("ascend:3", "ascend", "", "", "documented"))
    assert (told.provider, dict(told.options)) == ("CANNExecutionProvider", {"device_id": "3"})
    assert told.precisions["fp32"] == ({"precision_mode_v2": "origin"}, {"precision_mode": "must_keep_origin_dtype"})
    enflame = CHIPS["enflame"]
    told = provider(enflame, enflame.routes[0], inference.Device("enflame:1", "enflame", "", "", "documented"))
    assert dict(told.options) == {"device": "1"}


def opener(*known: str) -> Callable[[Mapping[str, str]], str]:
    """What opens a session and knows these options alone, as ONNX Runtime words it."""

    def open_with(told: Mapping[str, str]) -> str:
        for name in told:
            if name not in known:
                message = f'Unknown provider option: "{name}".'
                raise UnsupportedModelError(message)
        if told.get("precision_mode") == "refused":
            message = "Conv has no float32 kernel"
            raise UnsupportedModelError(message)
        return ",".join(told)

    return open_with


def test_the_first_option_a_provider_knows_is_taken() -> None:
    """Names change between versions; what a version refuses for another reason is not tried in a lower precision."""
    both = ({"precision_mode_v2": "origin"}, {"precision_mode": "must_keep_origin_dtype"})
    assert ort.understood(opener("precision_mode", "precision_mode_v2"), both) == "precision_mode_v2"
    assert ort.understood(opener("precision_mode"), both) == "precision_mode"
    with pytest.raises(UnsupportedModelError, match=r"precision_mode_v2.*; .*precision_mode"):
        ort.understood(opener(), both)
    with pytest.raises(UnsupportedModelError, match="no float32 kernel"):
        ort.understood(opener("precision_mode"), ({"precision_mode": "refused"}, {}))


def test_an_onnx_runtime_without_the_provider_offers_no_device() -> None:
    """The adapter itself, whatever a vendor file says: what was not built in is absent, by name."""
    made = ort.OrtBackend(ort.Provider("maker", "CANNExecutionProvider", "documented", "onnxruntime-cann", str))
    assert made.devices() == ()
    absent = made.absent()
    assert absent is not None
    assert absent.reason.startswith("no CANNExecutionProvider in onnxruntime ")
    assert absent.reason.endswith(" (package onnxruntime-cann)")


MOCKED: Final = [(v, r) for v, c in CHIPS.items() for r in c.routes if r.toolchain not in ("", "paddle", "rknn")]


@pytest.mark.parametrize(("vendor", "route"), MOCKED, ids=[one[0] for one in MOCKED])
def test_a_chip_with_its_maker_s_calls_in_an_engine_runs(
    vendor: str, route: Route, tmp_path: Path, machine: Machine, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """Node, libraries and the maker's module in an engine make a device; it compiles and answers. The module is a mock.

    A chip without fp32 among its documented precisions would be asked for its first.
    """
    machine.hardware(SAID[vendor])
    machine.runtime(SAID[vendor])
    mocked = Mocked(tmp_path)
    chip = replace(CHIPS[vendor], routes=(replace(route, python=None),))
    made = ChipBackend(chip, machine.host, mocked.engine)
    devices = made.devices()
    assert len(devices) == len(SAID[vendor]["cards"])
    assert (devices[0].evidence, "engine, Python" in devices[0].backend) == ("documented", True)
    session = made.prepare(imported(graphs.mul()), devices[0], Options(batch=2))
    answer = session.run({"x": np.ones((2, 3), np.float32)})["y"]
    assert answer.tolist() == [[2.0] * 3] * 2
    mocked.engine.stop()


def test_what_a_toolchain_is_told_is_the_vendor_file_s() -> None:
    """Fixed shapes unless documented otherwise; the first options of a precision; ceilings; the framework's device."""
    routes = {route.toolchain: route for route in CHIPS["ascend"].routes}
    told = kit(CHIPS["ascend"], routes["acl"])
    assert (told.toolchain, told.shapes, told.precisions["fp16"]) == ("acl", ("static",), {"precision_mode_v2": "fp16"})
    assert kit(CHIPS["ascend"], routes["paddle"]).options == {"target": "npu"}


ROUTES: Final = [(vendor, route) for vendor, chip in sorted(CHIPS.items()) for route in chip.routes]


@pytest.mark.parametrize(("vendor", "route"), ROUTES, ids=[f"{vendor}:{route.name}" for vendor, route in ROUTES])
def test_a_route_says_what_it_is_and_where_it_was_read(vendor: str, route: Route) -> None:
    """Nothing is called more than documented; every fact has a source; the CPU's provider is nobody's chip."""
    assert route.evidence == "documented", f"{vendor}: a certificate has to be on file first"
    assert route.sources
    assert all(source.document for source in route.sources)
    assert route.target not in ort.runtime().get_available_providers()
    assert (route.kind in {"ort_plugin", "ort_legacy"}) == route.target.endswith("ExecutionProvider")
    assert route.kind != "ort_legacy" or route.options["device"]
    for specifier in (route.python, route.onnxruntime, route.numpy):
        assert specifier is None or list(SpecifierSet(specifier))
    for note in route.notes:
        assert note.en
        assert any("\u4e00" <= letter <= "\u9fff" for letter in note.zh)


@EACH
def test_a_container_is_given_what_the_probe_looks_for(vendor: str) -> None:
    """The nodes of the probe and those of the container cannot drift apart."""
    chip = CHIPS[vendor]
    given = chip.container.devices
    nodes = [node.replace("{n}", "0") for node in chip.probe.nodes]
    if not given:
        assert chip.container.toolkit, "no device and no toolkit: nothing would pass the card in"
        return
    assert any(node in given or node.partition("/")[0] in given for node in nodes)
    assert set(chip.probe.beside) <= set(given)
    assert chip.visible.process is None or chip.visible.process in chip.container.environment
    assert chip.sources
    assert chip.container.sources
