"""The four ways in which a model reaches the CPU unseen, each walked with a real provider and each closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import inference
from inference import DeviceLostError, Options, UnsupportedModelError, simnpu
from inference.adapters import ort
from inference.adapters.ort_plugin import PluginBackend
from inference.adapters.plugin_probe import Wanted
from inference.vendors.simnpu import PLUGIN
from tests.inference import onnx_graphs as graphs
from tests.inference.plugins import needs_compiler, told

if TYPE_CHECKING:
    import onnx

    from inference import Model

pytestmark = needs_compiler
Importer = Callable[["onnx.ModelProto"], "Model"]


def bare(model: Model, options: dict[str, str], *, devices: int = 1, **more: Any) -> Any:  # noqa: ANN401
    """A session as ONNX Runtime makes it when nobody closes anything."""
    assert inference.backend("simnpu").devices()
    settings = ort.runtime().SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    found = [one for one in ort.runtime().get_ep_devices() if one.ep_name == simnpu.NAME]
    if devices:
        settings.add_provider_for_devices(found[:devices], options)
    return ort.runtime().InferenceSession(str(model.path), settings, **more)


def test_layer_1_a_listed_provider_makes_no_device() -> None:
    """A registered plugin stands in ONNX Runtime's list; a backend whose own library is gone has no device for it."""
    assert inference.backend("simnpu").devices()
    assert simnpu.NAME in ort.runtime().get_available_providers()
    gone = PluginBackend(replace(PLUGIN, wanted=lambda: Wanted(simnpu.NAME, library="/gone/libsimnpu.so")))
    assert gone.devices() == ()
    assert gone.absent() is not None


def test_layer_2_a_provider_that_fails_is_not_replaced(imported: Importer, capfd: pytest.CaptureFixture[str]) -> None:
    """A provider that does not open: left alone, the runtime's wrapper prints and takes the CPU; ours refuses."""
    model = imported(graphs.mlp())
    with pytest.raises(UnsupportedModelError, match="driver fault"):
        told(fault="create").prepare(model, told().devices()[0], Options())
    named = PluginBackend(replace(PLUGIN, provider=replace(PLUGIN.provider, provider="NoSuchExecutionProvider")))
    with pytest.raises(DeviceLostError, match="NoSuchExecutionProvider was loaded and lists no device"):
        named.prepare(model, told().devices()[0], Options())
    assert "Falling back" not in capfd.readouterr().out


def test_layer_3_no_device_is_not_the_cpu(imported: Importer) -> None:
    """Without a device in its options ONNX Runtime makes a session of the CPU's; a session of ours is never made so."""
    model = imported(graphs.mlp())
    assert bare(model, {}, devices=0).get_providers() == [ort.CPU]
    settings = ort.session_options(1, {}, strict=False)
    with pytest.raises(UnsupportedModelError, match=f"asked for {simnpu.NAME}, .* made a session on {ort.CPU}"):
        ort.session_on(model.path, settings, simnpu.NAME, None)
    with pytest.raises(DeviceLostError, match="is not there"):
        told().prepare(model, replace(told().devices()[0], id="simnpu:9"), Options())


def test_layer_4_nodes_that_stay_behind_are_named(imported: Importer) -> None:
    """Left alone, the session lists the provider first and runs a node on the CPU; ours refuses and names the node."""
    model = imported(graphs.mlp())
    lax = bare(model, {"ops": "Gemm"}, enable_fallback=0)
    assert lax.get_providers()[0] == simnpu.NAME
    placement = ort.placed(lax, simnpu.NAME, model.nodes)
    assert (placement.nodes, placement.on_device) == (3, 2)
    assert [kind.split()[0] for kind in placement.fallen_back] == ["Relu"]
    with pytest.raises(UnsupportedModelError, match=r"simnpu:0 takes 2 of 3 nodes and leaves: Relu .*not used"):
        told(ops="Gemm").prepare(model, told().devices()[0], Options())
    with pytest.raises(UnsupportedModelError, match="takes 0 of 3 nodes"):
        told(static_only="1").prepare(model, told().devices()[0], Options())
