"""The reference page on accelerators, in English or Chinese, made from what the vendor files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from app.commands.overrides import name as override_name
from inference.chip import Text

if TYPE_CHECKING:
    from inference.chip import Chip, Route, Source

Language = Literal[0, 1]
"""Index into a Text: English, Chinese."""

UNKNOWN: Final = Text("not documented", "未见文档")
NONE: Final = Text("none", "无")
ANY: Final = Text("any", "任意")
RUNS: Final = Text("yes", "能")
IN_ENGINE: Final = Text("in an engine", "在引擎中")
NOT_YET: Final = Text("not yet", "尚不能")
OR: Final = Text(" or ", " 或 ")
COMMA: Final = Text(", ", "、")

HEAD: Final = Text(
    """\
# Accelerators

[中文](../zh-CN/reference/accelerators.md)

What the gateway knows of accelerators: how it finds a card, which ways there are to run an ONNX model on it, and what each way asks
for. One file per maker in `inference/vendors/` holds all of it. The probe behind `headrace devices`, the compose overrides in `deploy/`
and this page read those files; this page is the output of `headrace vendors --markdown`.

**`documented` means that it was not tried.** The facts were read in the public sources named below each chip. We have run none of
these routes on the hardware, so commands, limits and names may be wrong for your release. Where a fact stands in no public source, it
says *not documented*; nothing is guessed.

| evidence | means |
|---|---|
| `documented` | written down in public, never tried by us |
| `simulated` | run in the maker's own simulator |
| `verified-ci` | run in our tests |
| `verified-hardware` | a signed certificate from a host with the chip is on file |

## What this version can run

| kind | what it is | where its sessions run |
|---|---|---|
""",
    """\
# 加速器

[English](../../reference/accelerators.md)

网关对加速器的了解：如何找到加速卡，有哪些方式可在其上运行 ONNX 模型，以及每种方式的要求。全部内容保存在 `inference/vendors/` 中，每家厂商一个文件。
`headrace devices` 的探测、`deploy/` 中的 compose 覆盖文件和本页都读取这些文件；本页即 `headrace vendors --markdown --lang zh-CN` 的输出。

**`documented` 表示未经试用。** 各项事实取自每款芯片下列出的公开资料。我们没有在这些硬件上运行过其中任何一条路线，因此命令、限制和名称可能与您的版本不符。
公开资料中没有的内容写作“未见文档”，绝不猜测。

| 验证程度 | 含义 |
|---|---|
| `documented` | 见于公开文档，我们从未试用 |
| `simulated` | 在厂商自己的模拟器中运行过 |
| `verified-ci` | 在我们的测试中运行过 |
| `verified-hardware` | 已存有来自装有该芯片主机的签名证书 |

## 本版本能运行什么

| 类别 | 说明 | 会话运行在何处 |
|---|---|---|
""",
)
AFTER_KINDS: Final = Text(
    """
An [engine](../explanation/engine.md) is a process with the interpreter of the maker's own environment, which `HEADRACE_ENGINES` names; so versions
of Python, numpy and ONNX Runtime need not be the gateway's. A `compiled` or `framework` route runs where this version knows the maker's calls:
they are written to the samples named below, tested against transcripts of those, and were never run on the hardware. *Not yet* stands where no
public sample of the calls is known to us, or they are not written. `headrace devices` names what is missing, and no session on the CPU ever stands in for a chip.

Three vendors are here for what they prove, without hardware: `rknnsim` is Rockchip's compiler with its simulator (`simulated`),
`openvino_native` a compiler with a real artefact, `paddle` a framework's device, both on the CPU (`verified-ci`). `make test-accelerators` runs them.
""",
    """
[引擎](../explanation/engine.md)是使用厂商独立环境解释器的进程，由 `HEADRACE_ENGINES` 指定；因此 Python、numpy 和 ONNX Runtime 的版本不必与网关一致。
`compiled` 和 `framework` 路线只有在本版本会调用厂商接口时才能运行：这些调用按下列示例编写，依据其调用记录测试，从未在硬件上运行。*尚不能*表示我们不知道公开的调用示例，或尚未编写。
`headrace devices` 会指出缺少什么，绝不会用 CPU 上的会话冒充芯片。

有三个厂商文件无需硬件，用于证明路径：`rknnsim` 是瑞芯微的编译器及其模拟器（`simulated`），`openvino_native` 是带真实产物的编译器，`paddle` 是框架设备，
后两者在 CPU 上（`verified-ci`）。由 `make test-accelerators` 运行。
""",
)
TURNS: Final = Text(
    """
Some runtimes end the process when two of its sessions run at once. Their vendor files say so, and the gateway runs their sessions in a process one after
the other, in the order of the calls: {vendors}. All others run at once.

## Overview
""",
    """
有些运行时在同一进程的两个会话同时运行时会使进程崩溃。其厂商文件对此有说明，网关按调用顺序逐个运行该进程中的会话：{vendors}。其余厂商的会话可同时运行。

## 概览
""",
)
WHERE: Final = {
    "ort_plugin": Text("the worker, or an engine", "工作进程或引擎"),
    "ort_legacy": Text("the worker, or an engine", "工作进程或引擎"),
    "compiled": IN_ENGINE,
    "framework": IN_ENGINE,
}
WHAT: Final = {
    "ort_plugin": Text("a provider loaded into stock ONNX Runtime", "加载到标准 ONNX Runtime 中的执行提供程序"),
    "ort_legacy": Text("a provider built into the maker's own ONNX Runtime", "厂商自行构建的 ONNX Runtime 内建的执行提供程序"),
    "compiled": Text("the maker's compiler makes an artefact, its runtime loads it", "厂商编译器生成产物，由其运行时加载"),
    "framework": Text("a deep-learning framework's device", "深度学习框架的设备"),
}
OVERVIEW: Final = Text(
    "vendor | maker | products named | routes, best first | evidence | opset | IR | shapes | runs in this version",
    "厂商文件 | 厂商 | 提到的产品 | 路线（首选在前） | 验证程度 | opset | IR | 形状 | 本版本能否运行",
)
ROUTES: Final = Text(
    "route | kind | evidence | Python | ONNX Runtime | numpy | opset | IR | shapes | precisions | runs in this version",
    "路线 | 类别 | 验证程度 | Python | ONNX Runtime | numpy | opset | IR | 形状 | 精度 | 本版本能否运行",
)
LABELS: Final = {
    "products": Text("products named", "提到的产品"),
    "node": Text("device node", "设备节点"),
    "beside": Text("must be there as well", "还须存在"),
    "pci": Text("PCI vendor", "PCI 厂商号"),
    "devices": Text("PCI device ids", "PCI 设备号"),
    "driver": Text("kernel driver of the render node", "渲染节点的内核驱动"),
    "ids": Text("device ids here", "本网关的设备编号"),
    "container": Text("cards of a container", "容器可见的卡"),
    "process": Text("cards of a process", "进程可见的卡"),
    "override": Text("compose override", "compose 覆盖文件"),
    "toolkit": Text("the maker's container toolkit", "厂商容器工具"),
    "sources": Text("sources", "资料来源"),
    "provider": Text("provider or device", "执行提供程序或设备"),
    "package": Text("package", "软件包"),
    "module": Text("Python module", "Python 模块"),
    "library": Text("libraries", "库"),
    "folders": Text("looked for in", "查找目录"),
    "options": Text("options", "选项"),
    "precisions": Text("precisions", "精度"),
    "lacks": Text("operators it lacks", "缺少的算子"),
    "has": Text("operators it has, and what their first input may be", "支持的算子及其第一个输入的类型"),
    "rejects": Text("element types it does not compute in", "不支持计算的元素类型"),
    "recipe": Text("an environment of its own", "独立环境"),
}


def page(chips: Sequence[Chip], turns: Sequence[str], language: Language) -> str:
    """The whole page. `turns`: vendors whose sessions run one after the other."""
    kinds = [[f"`{kind}`", what[language], WHERE[kind][language]] for kind, what in WHAT.items()]
    parts = [HEAD[language], *map(_row, kinds), AFTER_KINDS[language],
             TURNS[language].format(vendors=_codes(turns, language)), "\n", _table(OVERVIEW[language]),
             *(_row(_overview(chip, language)) for chip in chips)]
    return "".join(parts) + "".join(f"\n{section(chip, language)}" for chip in chips)


def section(chip: Chip, language: Language) -> str:
    """What is known of one chip."""
    title = f"## {chip.maker[language]} (`{chip.vendor}`)\n\n"
    facts = "".join(f"- {LABELS[label][language]}: {value}\n" for label, value in _facts(chip, language))
    notes = "".join(f"- {note[language]}\n" for note in chip.container.notes)
    rows = "".join(_row(_route(route, language)) for route in chip.routes)
    details = "".join(_details(route, language) for route in chip.routes)
    return f"{title}{facts}{notes}\n{_table(ROUTES[language])}{rows}{details}"


def runs(route: Route, language: Language) -> str:
    """Whether this version takes a route whose parts are all there, and where."""
    if not route.adapted:
        return NOT_YET[language]
    return (IN_ENGINE if route.toolchain else RUNS)[language]


def _overview(chip: Chip, language: Language) -> list[str]:
    best = chip.routes[0]
    routes = [f"{route.name} (`{route.kind}`)" for route in chip.routes]
    return [
        f"`{chip.vendor}`", chip.maker[language], _several(chip.models, language), "; ".join(routes),
        f"`{chip.evidence}`",
        _opset(best, language), _ir(best, language), _several(best.shapes, language), runs(best, language),
    ]


def _route(route: Route, language: Language) -> list[str]:
    versions = [_known(one, language, code=True) for one in (route.python, route.onnxruntime, route.numpy)]
    precisions = None if route.precisions is None else tuple(route.precisions)
    return [
        route.name, f"`{route.kind}`", f"`{route.evidence}`", *versions, _opset(route, language),
        _ir(route, language), _several(route.shapes, language), _several(precisions, language),
        runs(route, language),
    ]


def _facts(chip: Chip, language: Language) -> list[tuple[str, str]]:
    probe, container = chip.probe, chip.container
    nodes = OR[language].join(f"`/dev/{node.replace('{n}', '*')}`" for node in probe.nodes)
    listed = tuple(f"{one:04x}" for one in probe.pci_devices) or None
    vendor = None if probe.pci_vendor is None else f"{probe.pci_vendor:04x}"
    ids = f"`{chip.vendor}:0`, `{chip.vendor}:1`, …" if probe.several else f"`{chip.vendor}`"
    above = ("../../", "../../../")[language]
    found = [
        ("products", _several(chip.models, language)), ("node", nodes),
        ("beside", _codes([f"/dev/{node}" for node in probe.beside], language) or NONE[language]),
        ("pci", _known(vendor, language, code=True)), ("devices", _several(listed, language)),
        ("driver", f"`{probe.driver}`" if probe.driver else ""), ("ids", ids),
        ("container", _known(chip.visible.container, language, code=True)),
        ("process", _known(chip.visible.process, language, code=True)),
        ("override", f"[{override_name(chip)}]({above}{override_name(chip)})"),
        ("toolkit", _known(container.toolkit, language)),
        ("sources", _sources((*chip.sources, *container.sources))),
    ]
    return [(label, value) for label, value in found if value]


def _details(route: Route, language: Language) -> str:
    precisions = {
        name: OR[language].join(_pairs(one, "=") for one in alternatives if one)
        for name, alternatives in (route.precisions or {}).items()
    }
    told = [f"{name}: {how}" for name, how in precisions.items() if how]
    facts = [
        ("provider", f"`{route.target}`" if route.target else ""),
        ("package", f"`{route.package}`" if route.package else ""),
        ("module", f"`{route.module}`" if route.module else ""), ("library", _codes(route.libraries, language)),
        ("folders", _codes(route.folders, language)), ("options", _pairs(route.options, " → ")),
        ("precisions", "; ".join(told)),
        ("lacks", UNKNOWN[language] if route.lacks is None else _codes(route.lacks, language)),
        ("has", _operators(route.has or {}, language)), ("rejects", _codes(route.rejects, language)),
        ("sources", _sources(route.sources)),
    ]
    lines = [f"- {LABELS[label][language]}: {value}\n" for label, value in facts if value]
    lines += [f"- {note[language]}\n" for note in route.notes]
    recipe = "\n".join(route.recipe)
    made = f"\n```\n{recipe}\n```\n" if recipe else f" {UNKNOWN[language]}\n"
    return f"\n**{route.name}**\n\n{''.join(lines)}- {LABELS['recipe'][language]}:{made}"


def _operators(has: Mapping[str, tuple[str, ...]], language: Language) -> str:
    """Operators with the same types together."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for operator, types in has.items():
        grouped.setdefault(types, []).append(operator)
    return "; ".join(
        f"{_codes(operators, language)} ({', '.join(types) or ANY[language]})" for types, operators in grouped.items()
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _table(head: str) -> str:
    cells = head.split(" | ")
    return _row(cells) + "|" + "---|" * len(cells) + "\n"


def _known(value: object, language: Language, *, code: bool = False) -> str:
    if value is None:
        return UNKNOWN[language]
    return f"`{value}`" if code else str(value)


def _several(values: Sequence[str] | None, language: Language) -> str:
    return COMMA[language].join(values) if values else UNKNOWN[language]


def _codes(values: Sequence[str], language: Language) -> str:
    return COMMA[language].join(f"`{value}`" for value in values)


def _pairs(values: Mapping[str, str], sign: str) -> str:
    if sign == "=":
        return ", ".join(f"`{key}={value}`" for key, value in values.items())
    return "; ".join(f"{key}{sign}`{value}`" for key, value in values.items())


def _opset(route: Route, language: Language) -> str:
    lowest, highest = route.opset
    if lowest is None and highest is None:
        return UNKNOWN[language]
    if lowest is None:
        return f"≤ {highest}"
    return f"≥ {lowest}" if highest is None else f"{lowest}–{highest}"


def _ir(route: Route, language: Language) -> str:
    return UNKNOWN[language] if route.ir is None else f"≤ {route.ir}"


def _sources(sources: Sequence[Source]) -> str:
    told = dict.fromkeys(f"{one.document}: {one.section}" if one.section else one.document for one in sources)
    return "; ".join(told)
