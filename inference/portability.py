"""What of a graph a route does not take, by what is documented of it; and the passes that may help.

All that is known of a chip stands in its vendor file: this reads a `Route` and a graph, and knows no maker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import onnx

from inference.chip import Text
from inference.graph import graphs
from inference.legalize import Step
from inference.passes.opset import standard
from inference.passes.values import STANDARD, Values, fed, sizes, values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inference.chip import Route

COMMON_OPSET: Final = 17
"""What runtimes old and new have in common; with IR 8."""
Kind = Literal["opset", "ir", "shape", "operator", "type", "precision", "pass"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a route does not take."""

    kind: Kind
    reason: Text
    node: str = ""
    """The node's name, or its first output where it has none; empty where it is about the whole model."""
    operator: str = ""


def problems(model: onnx.ModelProto, route: Route) -> tuple[Problem, ...]:
    """In the order of the graph; none where nothing documented speaks against it."""
    return (*_versions(model, route), *_dimensions(model, route), *_nodes(model, route))


def unknown(route: Route) -> tuple[Text, ...]:
    """What no public document says of a route, of what decides whether a model runs there."""
    facts = (
        (route.has is None and route.lacks != (), Text("operators", "算子")),
        (route.opset == (None, None), Text("opset", "opset")),
        (route.shapes is None, Text("shapes", "形状")),
    )
    return tuple(text for missing, text in facts if missing)


def plan(model: onnx.ModelProto, route: Route) -> tuple[Step, ...]:
    """The passes that may remove what is in the way; none where nothing is."""
    found = {one.kind for one in problems(model, route)}
    steps = []
    if found & {"opset", "ir"}:
        steps.append(Step("opset", opset=_target(model, route), ir=route.ir))
    if "shape" in found:
        steps.append(Step("shapes", batch=1))
    if found & {"operator", "type", "shape"}:
        steps.append(Step("fold"))
    if "type" in found and "int64" in route.rejects:
        steps.append(Step("int32"))
    return tuple(steps)


def lowers(route: Route) -> bool:
    """Whether a route is documented to compute in less than float32, always."""
    return route.precisions is not None and "fp32" not in route.precisions and "fp16" in route.precisions


def _target(model: onnx.ModelProto, route: Route) -> int | None:
    """The opset to convert to: the common one where the route takes it, else the nearest; None where none is wrong."""
    lowest, highest = route.opset
    has = standard(model)
    if has is None or (lowest or 0) <= has <= (highest or has):
        return None
    wanted = max(COMMON_OPSET, lowest or 0)
    return min(wanted, highest or wanted)


def _versions(model: onnx.ModelProto, route: Route) -> Iterator[Problem]:
    lowest, highest = route.opset
    has = standard(model)
    if has is not None and not (lowest or 0) <= has <= (highest or has):
        yield Problem("opset", Text(f"it has opset {has}, the route takes {lowest or 1} to {highest or 'any'}",
                                    f"模型为 opset {has}，该路线支持 {lowest or 1} 至 {highest or '任意'}"))
    if route.ir is not None and model.ir_version > route.ir:
        yield Problem("ir", Text(f"it has IR version {model.ir_version}, the route reads {route.ir} at most",
                                 f"模型为 IR 版本 {model.ir_version}，该路线最高读取 {route.ir}"))


def _dimensions(model: onnx.ModelProto, route: Route) -> Iterator[Problem]:
    if route.shapes is None or {"dynamic", "profile"} & set(route.shapes):
        return
    fixed = True
    for one in fed(model):
        free = [axis for axis, size in enumerate(sizes(one.type.tensor_type.shape.dim)) if size is None]
        if free:
            fixed = False
            axes = ", ".join(map(str, free))
            yield Problem("shape", Text(f"input {one.name!r} has free dimensions ({axes}), the route takes fixed ones",
                                        f"输入 {one.name!r} 的维度（{axes}）不固定，该路线只支持固定形状"))
    if fixed:
        yield from _by_value(model)


def _by_value(model: onnx.ModelProto) -> Iterator[Problem]:
    """Nodes whose results have a shape that only a run can tell, though those of their inputs are known."""
    known = values(model)

    def told(name: str) -> bool:
        return None not in known.shapes.get(name, (None,))

    for node in model.graph.node:
        ins, outs = list(filter(None, node.input)), list(filter(None, node.output))
        if node.domain not in STANDARD or not all(name in known.types for name in (*ins, *outs)):
            continue
        if all(map(told, ins)) and not all(map(told, outs)):
            text = Text(
                f"the shape of what {node.op_type} gives cannot be told before a run, the route takes fixed ones",
                f"{node.op_type} 结果的形状在运行前无法确定，该路线只支持固定形状",
            )
            yield Problem("shape", text, node.name or outs[0], node.op_type)


def _nodes(model: onnx.ModelProto, route: Route) -> Iterator[Problem]:
    own = {(one.domain, one.name) for one in model.functions}
    known = values(model)
    top = model.graph
    for body in graphs(model):
        inner = body is not top
        for node in body.node:
            if (node.domain, node.op_type) in own:
                continue
            reason = _operator(node, route) or (None if inner else _type(node, route, known))
            if reason is not None:
                yield Problem(reason[0], reason[1], node.name or next(iter(node.output), ""), _label(node))


def _label(node: onnx.NodeProto) -> str:
    """An operator as a vendor file names it."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}:{node.op_type}"


def _operator(node: onnx.NodeProto, route: Route) -> tuple[Kind, Text] | None:
    label = _label(node)
    if label in (route.lacks or ()):
        return "operator", Text(f"it is documented to lack {label}", f"文档说明其缺少 {label}")
    # A weight in the form of a node: every reader of ONNX takes it for what it is.
    if route.has is not None and label not in route.has and label != "Constant":
        return "operator", Text(f"{label} is not among the operators it has", f"{label} 不在其支持的算子之列")
    return None


def _type(node: onnx.NodeProto, route: Route, known: Values) -> tuple[Kind, Text] | None:
    label = _label(node)
    computed = [known.types[name] for name in node.input if name in known.types and name not in known.constants]
    if label != "Cast":
        for one in computed:
            if one in route.rejects:
                return "type", Text(f"{label} computes in {one}, which it rejects",
                                    f"{label} 以 {one} 计算，该路线不支持")
    taken = (route.has or {}).get(label, ())
    first = known.types.get(node.input[0]) if node.input else None
    if taken and first is not None and first not in taken:
        listed = ", ".join(taken)
        return "type", Text(f"{label} has {first} as its first input, it takes {listed}",
                            f"{label} 的第一个输入为 {first}，仅支持 {listed}")
    return None
