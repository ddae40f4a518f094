"""A chip maker's data bound to a machine: which cards are there, and the first route that has all its parts.

What is missing is named: device node, library, provider, package or adapter. A chip that cannot be used is absent, and
nothing ever stands in for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.specifiers import SpecifierSet

from inference import Absent, Device, DeviceLostError, backend, names
from inference.adapters import chip_runtime, compiled, ort
from inference.adapters.engine_backend import DRIVER, EngineBackend, wanted
from inference.adapters.ort_plugin import Plugin, PluginBackend, digest_of, probed, said_of
from inference.adapters.plugin_probe import Wanted
from inference.adapters.readable import readable
from inference.chip import MissingPartError, Text, joined
from inference.host import HERE, RENDER

if TYPE_CHECKING:
    from inference import Model, Options, Session
    from inference.adapters.chip_runtime import Runtime
    from inference.adapters.remote import Engine
    from inference.chip import Chip, Probe, Route, Shape
    from inference.host import Card, Host

KINDS: Final = {
    "ort_plugin": Text("provider plugins of ONNX Runtime", "ONNX Runtime 插件式执行提供程序"),
    "ort_legacy": Text("providers built into ONNX Runtime", "ONNX Runtime 内建执行提供程序"),
    "compiled": Text("compiled engines", "编译型引擎"),
    "framework": Text("devices of a framework", "框架设备"),
}

MADE: Final = ("compiled", "framework")
"""Kinds whose sessions come of an artefact, by a toolchain in an engine."""
_NOTHING: Final = Text("", "")


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a chip: cards and a route that can be taken, or what is missing."""

    cards: tuple[Card, ...] = ()
    route: Route | None = None
    runtime: Runtime | None = None
    missing: Text = _NOTHING


def survey(chip: Chip, host: Host, engine: Engine | None = None) -> Found:
    """Look for the cards, then for the parts of each route in order of preference; the runtime is that of an engine."""
    cards = host.cards(chip.probe)
    missing = _hardware(chip, host, cards)
    if missing is not None:
        return Found(missing=missing)
    runtime = chip_runtime.ours() if engine is None else chip_runtime.of(engine)
    lacks = [(route, lacking(route, host, runtime)) for route in chip.routes]
    for route, lack in lacks:
        if not lack and route.adapted:
            return Found(cards, route, runtime)
    return Found(missing=_runtime(cards[0], lacks))


def _hardware(chip: Chip, host: Host, cards: tuple[Card, ...]) -> Text | None:
    """What of the hardware is missing, or None."""
    override = f"deploy/compose.{chip.vendor}.yml"
    if not cards:
        wanted = " | ".join(_wanted(node, chip.probe) for node in chip.probe.nodes)
        seen = host.pci(chip.probe)
        if seen:
            return Text(
                f"PCI shows {', '.join(seen)}, but there is no {wanted}: install the driver; in a container, pass the "
                f"card in ({override})",
                f"PCI 上有 {'、'.join(seen)}，但没有 {wanted}：请安装驱动；在容器中请传入该卡（{override}）",
            )
        if chip.probe.pci_vendor is None:
            return Text(f"no {wanted}", f"没有 {wanted}")
        vendor = f"{chip.probe.pci_vendor:04x}"
        return Text(f"no {wanted}, no PCI card of {vendor}", f"没有 {wanted}，PCI 上没有 {vendor} 的卡")
    absent = ", ".join(f"/dev/{node}" for node in chip.probe.beside if not host.has(f"/dev/{node}"))
    if not absent:
        return None
    return Text(
        f"{cards[0].node} is there, but {absent} is not: see to the driver; in a container, pass it in ({override})",
        f"有 {cards[0].node}，但缺少 {absent}：请检查驱动；在容器中请一并传入（{override}）",
    )


def _wanted(node: str, probe: Probe) -> str:
    """A pattern of device nodes for people, with the owner that a render node must have."""
    path = f"/dev/{node.replace('{n}', '*')}"
    if node != RENDER:
        return path
    return f"{path} of {probe.driver or format(probe.pci_vendor or 0, '04x')}"


def lacking(route: Route, host: Host, runtime: Runtime) -> list[Text]:
    """Each part of a route that this machine does not have; none when it is complete."""
    found = [*_versions(route, runtime)]
    for library in route.libraries:
        if host.library(library, route.folders) is None:
            where = Text(f" (looked in {', '.join(route.folders)} and the linker's folders)" if route.folders else "",
                         f"（已查找 {'、'.join(route.folders)} 及链接器目录）" if route.folders else "")
            found.append(Text(f"the library {library}{where.en}", f"库 {library}{where.zh}"))
    if route.kind in MADE and route.toolchain:
        return [*found, *_toolchain(route, runtime)]
    if route.module and not runtime.where and not host.module(route.module):
        found.append(_module(route))
    if route.kind == "ort_legacy":
        found += _provider(route, runtime)
    # A plugin is loaded, in a child, only where all that it needs was found as files.
    if route.kind == "ort_plugin" and not found:
        found += _loads(route, host, runtime)
    return found


def _module(route: Route) -> Text:
    """The module that is missing, and the package that brings it."""
    package = f" (package {route.package})" if route.package and route.package != route.module else ""
    package_zh = f"（软件包 {route.package}）" if package else ""
    return Text(f"the Python module {route.module}{package}", f"Python 模块 {route.module}{package_zh}")


def _toolchain(route: Route, runtime: Runtime) -> list[Text]:
    """What of the maker's compiler or framework an engine's environment lacks; without an engine, that."""
    if runtime.ask is None:
        part = _module(route)
        return [Text(f"{part.en} in an engine: name the interpreter that has it in HEADRACE_ENGINES",
                     f"引擎中的 {part.zh}：请在 HEADRACE_ENGINES 中指明装有它的解释器")]
    found = runtime.ask(compiled.request(route.toolchain, _told(route)))
    return [found] if isinstance(found, Text) else []


def _told(route: Route) -> dict[str, str]:
    """What a toolchain is told of the route: the framework's name of the device."""
    return {"target": route.target} if route.target else {}


def _versions(route: Route, runtime: Runtime) -> list[Text]:
    """What the route needs in an environment of its own, because this one differs."""
    known = [("Python", runtime.python, route.python), ("numpy", runtime.numpy, route.numpy)]
    if route.kind == "ort_plugin" and route.onnxruntime is not None:
        if runtime.version is None:
            return [runtime.missing]
        known.append(("onnxruntime", runtime.version, route.onnxruntime))
    return [
        Text(f"{name} {wanted} (here it is {version}: give it an environment of its own and name that in "
             "HEADRACE_ENGINES)",
             f"{name} {wanted}（此处为 {version}：请为其建立独立环境，并在 HEADRACE_ENGINES 中指明）")
        for name, version, wanted in known
        if wanted is not None and version and not SpecifierSet(wanted).contains(version, prereleases=True)
    ]


def _provider(route: Route, runtime: Runtime) -> list[Text]:
    """Whether the ONNX Runtime that is installed there was built with the provider."""
    if runtime.version is None:
        return [runtime.missing]
    if route.target in runtime.providers:
        return []
    en, zh = (f"of {runtime.where}", f"{runtime.where} 的") if runtime.where else ("here", "此处的")
    return [Text(f"{route.target} (onnxruntime {runtime.version} {en} is built without it)",
                 f"{route.target}（{zh} onnxruntime {runtime.version} 未内建）")]


def _loads(route: Route, host: Host, runtime: Runtime) -> list[Text]:
    """Why the plugin cannot be loaded, if it cannot: by a child of ours, or by the engine."""
    if runtime.ask is not None:
        told = wanted(_wanted_plugin(route, host), "probe")
        found = runtime.ask({"driver": DRIVER, "plugin": told})
        if isinstance(found, Text):
            return [found]
        return [] if found["devices"] else [Text(f"a device of {route.target}: its plugin was loaded and lists none",
                                                 f"{route.target} 的设备：插件已加载，但未列出设备")]
    try:
        probed(_wanted_plugin(route, host))
    except MissingPartError as error:
        return [error.text]
    return []


def _wanted_plugin(route: Route, host: Host) -> Wanted:
    return Wanted(route.target, module=route.module, folders=host.modules or ())


def _runtime(card: Card, lacks: list[tuple[Route, list[Text]]]) -> Text:
    """Why no route can be taken though there is a card."""
    said = [_unadapted(card, route) for route, lack in lacks if not lack][:1]
    adapted = [(route, lack) for route, lack in lacks if route.adapted]
    if adapted or not said:
        route, lack = (adapted or lacks)[0]
        said += _incomplete(card, route, lack)
    return joined(said, "; ", "；")


def _unadapted(card: Card, route: Route) -> Text:
    kind = KINDS[route.kind]
    return Text(
        f"{card.node} is there, what {route.name} needs was found, but this version makes no calls of it yet "
        f"({kind.en})",
        f"有 {card.node}，也找到了 {route.name} 所需的部分，但本版本尚不会调用它（{kind.zh}）",
    )


def _incomplete(card: Card, route: Route, lack: list[Text]) -> list[Text]:
    """What a route lacks, and how to get it."""
    parts = joined(lack, ", ", "、")
    said = [Text(f"{card.node} is there, but {route.name} cannot be used; it lacks: {parts.en}",
                 f"有 {card.node}，但 {route.name} 无法使用，缺少：{parts.zh}")]
    if route.recipe:
        recipe = " && ".join(route.recipe)
        said.append(Text(f"recipe: {recipe}", f"安装方法：{recipe}"))
    else:
        said.append(Text("how to install it is in no public document: ask the maker",
                         "安装方法未见公开文档：请询问厂商"))
    if not route.adapted:
        kind = KINDS[route.kind]
        said.append(Text(f"even then this version makes no calls of it yet ({kind.en})",
                         f"即便如此，本版本也尚不会调用它（{kind.zh}）"))
    return said


class ChipBackend:
    """A chip maker's data, bound to this machine."""

    def __init__(self, chip: Chip, host: Host = HERE, engine: Engine | None = None) -> None:
        """Nothing is looked at yet. `engine`: whose runtime it runs on; by default on that of this process."""
        self.chip = chip
        self._host, self._engine = host, engine

    def on(self, host: Host) -> ChipBackend:
        """The same chip on another machine."""
        return ChipBackend(self.chip, host, self._engine)

    def inside(self, engine: Engine) -> ChipBackend:
        """The same chip on the runtime of an engine."""
        return ChipBackend(self.chip, self._host, engine)

    def devices(self) -> tuple[Device, ...]:
        """Each card with a node, where a route is complete."""
        found = self._survey()
        if found.route is None or found.runtime is None:
            return ()
        where = f", engine, Python {found.runtime.python}" if found.runtime.where else ""
        version = f"onnxruntime {found.runtime.version}, {found.route.target}{where}"
        if found.route.kind in MADE and found.runtime.ask is not None:
            answer = found.runtime.ask(compiled.request(found.route.toolchain, _told(found.route)))
            if isinstance(answer, Text):
                return ()
            version = compiled.title(answer)
        driver = self._driver(found.route)
        return tuple(self._device(card, version, found.route.evidence, driver) for card in found.cards)

    def _driver(self, route: Route) -> str:
        """The kernel's driver, and the plugin where it is one that this process loads."""
        parts = [self._host.driver(self.chip.probe)]
        if route.kind == "ort_plugin" and self._engine is None:
            parts.append(said_of("", digest_of(probed(_wanted_plugin(route, self._host)).library)))
        return ", ".join(part for part in parts if part)

    def _survey(self) -> Found:
        return survey(self.chip, self._host, self._engine)

    def _device(self, card: Card, version: str, evidence: str, driver: str) -> Device:
        vendor = self.chip.vendor
        ordinal = f":{card.ordinal}" if self.chip.probe.several else ""
        return Device(f"{vendor}{ordinal}", vendor, f"{self.chip.maker.en}, {card.node}", version, evidence, driver)

    def absent(self) -> Absent | None:
        """Which device node, library, provider, package or adapter is missing."""
        found = self._survey()
        if found.route is not None:
            return None
        return Absent(self.chip.vendor, found.missing.en, self.chip.evidence, found.missing.zh)

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the sessions of the route that is taken here can be asked for."""
        route = self._survey().route
        return tuple((route.precisions if route is not None else None) or ("fp32",))

    def prepare(self, model: Model, device: Device, options: Options) -> Session:
        """Open the model on that card. Raises UnsupportedModelError, and DeviceLostError where the chip has gone."""
        found = self._survey()
        if found.route is None:
            raise DeviceLostError(found.missing.en)
        if found.route.kind in MADE:
            return compiled.CompiledBackend(kit(self.chip, found.route), self._engine).prepare(model, device, options)
        told = provider(self.chip, found.route, device)
        made = plugin(told, found.route, self._host) if found.route.kind == "ort_plugin" else None
        with readable(model, found.route) as given:
            if self._engine is not None:
                library = None if made is None else made.plugin
                return EngineBackend(told, self._engine, library).prepare(given, device, options)
            return (made or ort.OrtBackend(told)).prepare(given, device, options)


def provider(chip: Chip, route: Route, device: Device) -> ort.Provider:
    """What ONNX Runtime is told to run on this card."""
    ordinal = device.id.partition(":")[2] or "0"
    index = route.options.get("device")
    return ort.Provider(
        vendor=chip.vendor, provider=route.target, evidence=route.evidence, package=route.package,
        describe=lambda: device.name, options={index: ordinal} if index else {},
        precisions=route.precisions or {"fp32": ({},)}, shapes=route.shapes or ("dynamic",),
        one_at_a_time=route.one_at_a_time,
    )


def kit(chip: Chip, route: Route) -> compiled.Kit:
    """The route as the adapter of compilers and frameworks takes it."""
    precisions = {name: dict(several[0]) for name, several in (route.precisions or {"fp32": ({},)}).items()}
    return compiled.Kit(
        vendor=chip.vendor, toolchain=route.toolchain, evidence=route.evidence, describe=lambda: chip.maker.en,
        options=_told(route), precisions=precisions, shapes=_shapes(route), opsets=route.opset, ir=route.ir,
    )


def _shapes(route: Route) -> tuple[Shape, ...]:
    """Fixed, unless documented otherwise. A range with an optimum is not asked for: fixed sizes are within it."""
    dynamic = route.shapes is not None and "dynamic" in route.shapes
    return ("dynamic",) if dynamic else ("static",)


def plugin(told: ort.Provider, route: Route, host: Host) -> PluginBackend:
    """The maker's plugin; one whose option takes the card's number lists one device for all cards."""
    wanted = _wanted_plugin(route, host)
    return PluginBackend(Plugin(told, lambda: wanted, by_option="device" in route.options))


def chips() -> tuple[Chip, ...]:
    """What every vendor file says of its chip, by the file's name; those without hardware of a maker are left out."""
    made = map(backend, names())
    return tuple(one.chip for one in made if isinstance(one, ChipBackend))
