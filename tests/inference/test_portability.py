"""Verdicts from what a route is documented to take: each kind of problem, each pass that helps, and no guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import onnx
import pytest

import inference
from inference import Options, UnsupportedModelError
from inference.adapters.tensors import NUMBERS
from inference.chip import Route, Source
from inference.legalize import Step
from inference.lint import lint, routes, vendors
from inference.portability import lowers, plan, problems, unknown
from inference.vendors.moorethreads import CHIP as MOORE_THREADS
from inference.vendors.simnpu import ROUTE as SIMNPU
from tests.inference import onnx_graphs as graphs
from tests.inference.onnx_graphs import FLOAT, build, constant, node, value
from tests.inference.plugins import needs_compiler

if TYPE_CHECKING:
    from inference import Model

Importer = Callable[[onnx.ModelProto], "Model"]
ROUTE: Final = Route("compiled", "engine", "documented", (Source("a document"),))
EVERYTHING: Final = replace(ROUTE, has={"Gemm": (), "Relu": ()}, opset=(7, 17), ir=8, shapes=("dynamic",))


def said(model: onnx.ModelProto, **facts: Any) -> list[tuple[str, str, str]]:  # noqa: ANN401 - any field of a route
    """Kind, node and reason of each problem on a route of these facts."""
    return [(one.kind, one.node, one.reason.en) for one in problems(model, replace(ROUTE, **facts))]


def test_what_is_not_documented_is_no_problem_and_no_praise() -> None:
    """A route of which nothing is known refuses nothing; what is unknown of it is said."""
    assert said(graphs.mlp()) == []
    assert [text.en for text in unknown(ROUTE)] == ["operators", "opset", "shapes"]
    assert unknown(EVERYTHING) == ()
    assert [text.zh for text in unknown(replace(EVERYTHING, has=None))] == ["算子"]
    assert unknown(replace(EVERYTHING, has=None, lacks=())) == ()


@pytest.mark.parametrize(("facts", "kind", "node_", "reason"), [
    ({"opset": (None, 15)}, "opset", "", "it has opset 17, the route takes 1 to 15"),
    ({"opset": (18, None)}, "opset", "", "it has opset 17, the route takes 18 to any"),
    ({"ir": 7}, "ir", "", "it has IR version 8, the route reads 7 at most"),
    ({"shapes": ("static",)}, "shape", "", "input 'x' has free dimensions (0), the route takes fixed ones"),
    ({"shapes": ("bucket",)}, "shape", "", "input 'x' has free dimensions (0), the route takes fixed ones"),
    ({"lacks": ("Relu",)}, "operator", "b", "it is documented to lack Relu"),
    ({"has": {"Gemm": ()}}, "operator", "b", "Relu is not among the operators it has"),
    ({"has": {"Gemm": (), "Relu": ("float16",)}}, "type", "b", "Relu has float32 as its first input, it takes float16"),
    ({"rejects": ("float32",), "lacks": ("Gemm",)}, "type", "b", "Relu computes in float32, which it rejects"),
])
def test_each_kind_of_problem_names_its_place(facts: dict[str, Any], kind: str, node_: str, reason: str) -> None:
    """Opset, IR, shapes, operators and element types, each with the node it is about."""
    assert (kind, node_, reason) in said(graphs.mlp(), **facts)


@pytest.mark.parametrize("facts", [
    {"opset": (None, 17)}, {"opset": (17, 17)}, {"ir": 8}, {"shapes": ("dynamic",)}, {"shapes": ("static", "profile")},
    {"lacks": ("Conv",)}, {"has": {"Gemm": ("float32",), "Relu": ()}}, {"rejects": ("int64",)},
])
def test_what_is_taken_is_no_problem(facts: dict[str, Any]) -> None:
    """Ceilings include themselves; a range of sizes takes free dimensions; other types and operators do not matter."""
    assert said(graphs.mlp(), **facts) == []


def test_constants_are_read_and_not_computed() -> None:
    """A shape is int64 by ONNX's definition: as a weight it is no arithmetic, and a Constant node needs no kernel."""
    nodes = [node("Constant", [], ["to"], value=constant("", [-1, 2], "int64")), node("Reshape", ["x", "to"], ["y"])]
    model = build(nodes, [value("x", FLOAT, ["N", 6])], [value("y", FLOAT, None)])
    assert [one[0] for one in said(model, has={"Reshape": ("float32",)}, rejects=("int64",))] == ["type"]
    weight = build([node("Reshape", ["x", "to"], ["y"])], [value("x", FLOAT, ["N", 6])], [value("y", FLOAT, None)],
                   [constant("to", [-1, 2], "int64")])
    assert said(weight, has={"Reshape": ("float32",)}, rejects=("int64",)) == []


def test_a_shape_that_only_a_run_can_tell_is_named() -> None:
    """Where elements are not zero depends on them; a Reshape by a weight does not."""
    nodes = [node("NonZero", ["x"], ["where"], name="find"), node("Cast", ["where"], ["y"], to=FLOAT)]
    model = build(nodes, [value("x", FLOAT, [3, 2])], [value("y", FLOAT, [2, "n"])])
    assert said(model, shapes=("dynamic",)) == []
    assert said(model, shapes=("static",)) == [
        ("shape", "find", "the shape of what NonZero gives cannot be told before a run, the route takes fixed ones"),
    ]
    fixed = build([node("Reshape", ["x", "to"], ["y"])], [value("x", FLOAT, [3, 2])], [value("y", FLOAT, [6])],
                  [constant("to", [-1], "int64")])
    assert said(fixed, shapes=("static",)) == []


def test_operators_of_other_domains_and_of_subgraphs_are_judged() -> None:
    """They stand in a vendor file with their domain; what stands within an If counts; functions of the model do not."""
    assert said(graphs.labels(), has={"LabelEncoder": ()})[0][2].startswith("ai.onnx.ml:LabelEncoder is not among")
    assert said(graphs.labels(), has={"ai.onnx.ml:LabelEncoder": ("int64",)}) == []
    branch = onnx.helper.make_graph([node("Erf", ["x"], ["a"])], "then", [], [value("a", FLOAT, None)])
    model = build([node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)],
                  [value("x", FLOAT, [2])], [value("y", FLOAT, None)], [constant("yes", data=True, dtype="bool")])
    assert [one[2] for one in said(model, lacks=("Erf",))] == ["it is documented to lack Erf"] * 2


@pytest.mark.parametrize(("facts", "steps"), [
    ({}, ()),
    ({"opset": (None, 15), "ir": 7}, (Step("opset", opset=15, ir=7),)),
    ({"opset": (19, None)}, (Step("opset", opset=19, ir=None),)),
    ({"ir": 7}, (Step("opset", opset=None, ir=7),)),
    ({"shapes": ("static",)}, (Step("shapes", batch=1), Step("fold"))),
    ({"lacks": ("Relu",)}, (Step("fold"),)),
    ({"rejects": ("int64",)}, ()),
])
def test_the_plan_holds_what_may_help_and_nothing_else(facts: dict[str, Any], steps: tuple[Step, ...]) -> None:
    """Each problem calls for its passes; where nothing is in the way nothing is done."""
    assert plan(graphs.mlp(), replace(ROUTE, **facts)) == steps


def test_an_opset_above_the_ceiling_goes_to_the_common_ground() -> None:
    """17 where the route takes it, though its ceiling be higher; the ceiling where that is lower."""
    new = graphs.mul(opset=22, ir=10)
    for ceiling, target in ((20, 17), (17, 17), (15, 15)):
        assert plan(new, replace(ROUTE, opset=(None, ceiling)))[0].opset == target
    assert plan(graphs.integers(), replace(ROUTE, rejects=("int64",)))[-1] == Step("int32")


def test_a_route_of_half_precision_alone_is_tried_as_such(imported: Importer) -> None:
    """Where a vendor file names no fp32, a model that overflows is refused, and one that does not is not."""
    lowering = [vendor for vendor in vendors() if lowers(routes(vendor)[0])]
    assert lowering
    for proto, refused in ((graphs.overflowing(), True), (graphs.mul(), False)):
        verdict, = lint(imported(proto), lowering[:1])
        assert (verdict.outcome == "refused") is refused
        assert any("computed in fp16: output 'y' is not finite" in one.reason.en
                   for one in verdict.problems) is refused


def test_the_routes_of_all_makers_are_judged() -> None:
    """Every vendor file says what its routes take, but for the two devices that are for comparing and for dry runs."""
    assert set(inference.names()) - set(vendors()) == {"null", "reference"}
    for vendor in vendors():
        for route in routes(vendor):
            for types in (route.has or {}).values():
                assert set(types) <= NUMBERS | {"bfloat16", "str"}


def test_a_list_of_operators_agrees_with_what_is_lacking() -> None:
    """Moore Threads' document lists 89 operators, and none of those that its file says are lacking."""
    route = MOORE_THREADS.routes[0]
    assert route.has is not None
    assert route.lacks is not None
    assert len(route.has) == 89
    assert not set(route.lacks) & set(route.has)


@needs_compiler
@pytest.mark.parametrize("proto", [
    graphs.mlp, graphs.mul, graphs.sigmoid, graphs.integers, graphs.scalar, graphs.two_outputs, graphs.labels,
    graphs.odd_names, graphs.refused_batch, graphs.batch_of_one, graphs.whole, graphs.overflowing,
])
def test_simnpu_s_file_tells_the_truth(proto: Callable[[], onnx.ModelProto], imported: Importer) -> None:
    """The verdict by its data and what the device itself does with the model are the same."""
    model = imported(proto())
    verdict, = lint(model, ["simnpu"])
    made = inference.backend("simnpu")
    try:
        session = made.prepare(model, made.devices()[0], Options())
    except UnsupportedModelError:
        assert verdict.outcome == "refused"
        return
    assert verdict.outcome in ("runs", "after_passes")
    assert session.placement.on_device == session.placement.nodes
    assert {one.op_type for one in proto().graph.node} <= set(SIMNPU.has or ())
