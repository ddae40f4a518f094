"""The passes one by one: what each changes in a graph, what it leaves, and that the answers stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, checker
from onnx.reference import ReferenceEvaluator

from inference.passes import PassError, fold, half, names, narrow, opset, quantise, shapes
from inference.passes.values import fed, values
from tests.inference import onnx_graphs as graphs
from tests.inference.onnx_graphs import FLOAT, INT64, build, constant, node, value

X: Final = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
Array = np.ndarray[Any, Any]


def operators(model: onnx.ModelProto) -> list[str]:
    """In the order of the graph."""
    return [one.op_type for one in model.graph.node]


def answers(model: onnx.ModelProto, **feeds: Array) -> list[Array]:
    """Of onnx's own evaluator; the model must be valid."""
    checker.check_model(model, full_check=True)
    with np.errstate(all="ignore"):
        return [np.asarray(one) for one in ReferenceEvaluator(model).run(None, feeds)]


def same(before: onnx.ModelProto, after: onnx.ModelProto, atol: float = 0.0, **feeds: Array) -> None:
    """Both give the same, to `atol`, in the same types."""
    for one, other in zip(answers(before, **feeds), answers(after, **feeds), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other.astype(float), one.astype(float), atol=atol, rtol=0)


def reshaping(*, ir: int = 8) -> onnx.ModelProto:
    """Flattens x [N, 2, 3] by a shape that is computed from x, as exporters write it; adds a computed constant."""
    nodes = [
        node("Constant", [], ["zero"], value=constant("", [0], "int64")),
        node("Constant", [], ["minus"], value=constant("", [-1], "int64")),
        node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["rows"], axis=0),
        node("Concat", ["rows", "minus"], ["to"], axis=0), node("Reshape", ["x", "to"], ["flat"]),
        node("Dropout", ["flat"], ["kept", "mask"]), node("Exp", ["w"], ["e"]), node("Identity", ["e"], ["bias"]),
        node("Add", ["kept", "bias"], ["y"]),
    ]
    weights = [constant("w", np.arange(6)), constant("unused", np.arange(9))]
    inputs = [value("x", FLOAT, ["N", 2, 3])]
    if ir == 3:
        inputs += [value("w", FLOAT, [6]), value("unused", FLOAT, [9])]
    return build(nodes, inputs, [value("y", FLOAT, ["N", 6])], weights, ir=ir)


@pytest.mark.parametrize("ir", [3, 8])
def test_what_no_input_changes_is_folded(ir: int) -> None:
    """Constants and what is computed from them become weights; a shape only where it is fixed; unread weights go."""
    model = reshaping(ir=ir)
    free, fixed = fold.apply(model), fold.apply(shapes.apply(model, batch=4))
    assert operators(free) == ["Shape", "Gather", "Concat", "Reshape", "Add"]
    assert operators(fixed) == ["Reshape", "Add"]
    assert "unused" not in values(free).constants
    assert [one.name for one in free.graph.input] == ["x"]
    x = X.reshape(4, 2, 3)
    same(model, free, x=x)
    same(model, fixed, x=x)


def test_what_differs_from_run_to_run_is_not_folded() -> None:
    """A random number stays one; a quantised weight keeps the mark that a compiler looks for."""
    nodes = [node("RandomNormal", [], ["r"], shape=[6]), node("QuantizeLinear", ["w", "scale"], ["q"]),
             node("DequantizeLinear", ["q", "scale"], ["d"]), node("Sum", ["x", "r", "d"], ["y"])]
    model = build(nodes, [value("x", FLOAT, ["N", 6])], [value("y", FLOAT, ["N", 6])],
                  [constant("w", np.arange(6)), constant("scale", 0.1)])
    assert operators(fold.apply(model)) == operators(model)


def test_a_constant_that_grows_without_end_is_refused() -> None:
    """Eight bytes can ask for a terabyte."""
    nodes = [node("ConstantOfShape", ["to"], ["big"]), node("ReduceSum", ["big"], ["sum"], keepdims=0),
             node("Add", ["x", "sum"], ["y"])]
    model = build(nodes, [value("x", FLOAT, ["N"])], [value("y", FLOAT, ["N"])], [constant("to", [2**27], "int64")])
    with pytest.raises(PassError, match="more than 256 MiB"):
        fold.apply(model)


def test_what_a_subgraph_reads_keeps_its_name() -> None:
    """An Identity whose output is read within an If stays."""
    then = onnx.helper.make_graph([node("Neg", ["same"], ["a"])], "then", [], [value("a", FLOAT, ["N", 6])])
    other = onnx.helper.make_graph([node("Abs", ["same"], ["b"])], "else", [], [value("b", FLOAT, ["N", 6])])
    nodes = [node("Identity", ["x"], ["same"]), node("If", ["yes"], ["y"], then_branch=then, else_branch=other)]
    model = build(nodes, [value("x", FLOAT, ["N", 6])], [value("y", FLOAT, ["N", 6])],
                  [constant("yes", data=True, dtype="bool")])
    made = fold.apply(model)
    assert operators(made) == ["Identity", "If"]
    same(model, made, x=X)


def test_free_dimensions_get_the_sizes_they_are_given() -> None:
    """The first is the batch; the others by name or place; what follows from them is stated, inside and at the end."""
    model = build([node("Relu", ["x"], ["r"]), node("Transpose", ["r"], ["y"], perm=[0, 2, 1])],
                  [value("x", FLOAT, ["N", "T", None])], [value("y", FLOAT, ["N", "C", "T"])])
    made = shapes.apply(model, batch=2, sizes={"T": 5, "x/2": 3})
    known = values(made)
    assert (known.shapes["x"], known.shapes["r"], known.shapes["y"]) == ((2, 5, 3), (2, 5, 3), (2, 3, 5))
    assert [one.dim_value for one in made.graph.output[0].type.tensor_type.shape.dim] == [2, 3, 5]
    with pytest.raises(PassError, match="no size is given: T of 'x', 2 of 'x'"):
        shapes.apply(model, batch=2)
    assert values(model).shapes["x"] == (None, None, None)


@pytest.mark.parametrize(("proto", "shape"), [(graphs.old_softmax, (4, 3, 2)), (graphs.mlp, (4, 16))])
@pytest.mark.parametrize("version", [13, 17, 21])
def test_an_opset_is_converted_with_its_meaning(
    proto: Callable[[], onnx.ModelProto], shape: tuple[int, ...], version: int
) -> None:
    """Softmax of opset 9 means axis 1 and all after it: the converted model computes that, and not the newer sense."""
    model = proto()
    made = opset.apply(model, version=version, ir=8)
    assert opset.standard(made) == version
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    given, = answers(made, x=x)
    if proto is graphs.old_softmax:
        flat = np.exp(x.reshape(4, 6))
        np.testing.assert_allclose(given, (flat / flat.sum(1, keepdims=True)).reshape(shape), atol=1e-6)
    else:
        np.testing.assert_array_equal(given, answers(model, x=x)[0])


def test_other_domains_and_the_file_s_version_are_kept_or_lowered() -> None:
    """ai.onnx.ml stays in the list of opsets; IR goes down to what is asked, notes of newer files are dropped."""
    model = graphs.labels()
    model.graph.node[0].metadata_props.add(key="from", value="elsewhere")
    model.ir_version = 10
    made = opset.apply(model, version=15, ir=8)
    assert {one.domain: one.version for one in made.opset_import} == {"": 15, "ai.onnx.ml": 2}
    assert (made.ir_version, model.ir_version) == (8, 10)
    assert not made.graph.node[0].metadata_props
    alone = build([node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0])],
                  [value("x", FLOAT, ["N", 1])], [value("y", FLOAT, ["N", 1])])
    del alone.opset_import[:]
    alone.opset_import.add(domain="ai.onnx.ml", version=1)
    assert opset.standard(opset.apply(alone, version=17, ir=8)) is None


def test_a_node_without_a_way_back_is_named() -> None:
    """Gelu came with opset 20: below there is none, and the reason says so. What was there all along stays."""
    def alone(operator: str) -> onnx.ModelProto:
        return build([node(operator, ["x"], ["y"])], [value("x", FLOAT, ["N", 6])], [value("y", FLOAT, ["N", 6])],
                     opset=20)

    with pytest.raises(PassError, match="cannot convert opset 20 to 17"):
        opset.apply(alone("Gelu"), version=17, ir=8)
    assert opset.standard(opset.apply(alone("Identity"), version=13, ir=8)) == 13


def test_half_precision_keeps_the_border_and_halves_the_rest() -> None:
    """Inputs and outputs stay float32; weights and values between are float16; the answers differ a little."""
    model = graphs.mlp()
    made = half.apply(model)
    x = np.random.default_rng(3).normal(size=(5, 16)).astype(np.float32)
    known = values(made)
    assert (known.types["x"], known.types["y"]) == ("float32", "float32")
    assert {known.types[name] for name in known.constants} == {"float16"}
    assert operators(made) == ["Cast", "Gemm", "Relu", "Gemm", "Cast"]
    same(model, made, atol=2e-2, x=x)
    off = np.abs(answers(model, x=x)[0] - answers(made, x=x)[0]).max()
    assert off > 1e-5, "nothing was computed in half precision"


def overflow_inside() -> onnx.ModelProto:
    """Gives tanh((1e6 x) / 1e6): the middle is beyond half precision, the ends are not."""
    nodes = [node("Mul", ["x", "million"], ["a"]), node("Div", ["a", "million"], ["b"]), node("Tanh", ["b"], ["y"])]
    return build(nodes, [value("x", FLOAT, ["N", 6])], [value("y", FLOAT, ["N", 6])], [constant("million", 1e6)])


def test_what_comes_near_65504_stays_in_float32() -> None:
    """The nodes around it only; without that care the answer is no number."""
    model = overflow_inside()
    made = half.apply(model, hot=["a"])
    assert operators(made) == ["Mul", "Div", "Cast", "Tanh", "Cast"]
    same(model, made, atol=2e-3, x=X)
    assert np.isnan(answers(half.apply(model, hot=None), x=X)[0]).any()
    with pytest.raises(PassError, match="comes near 65504"):
        half.apply(graphs.overflowing(), hot=["a", "b"])


@pytest.mark.parametrize(("number", "hot"), [(20_000.0, True), (10_000.0, False), (np.inf, True), (np.nan, True)])
def test_near_is_a_quarter_of_the_highest(number: float, *, hot: bool) -> None:
    """A trial is not the plant: there must be room."""
    assert half.is_hot(np.array([0.0, -number])) is hot
    assert not half.is_hot(np.array([10**9]))
    assert not half.is_hot("no array")


def counting() -> onnx.ModelProto:
    """Of x int64 [N, 6]: (x + 1) in int64, and where its greatest stands, by way of a cast, plus a wide constant."""
    nodes = [
        node("Add", ["x", "one"], ["more"]), node("Slice", ["more", "from", "until", "axes"], ["most"]),
        node("ArgMax", ["most"], ["place"], axis=1, keepdims=0), node("Mul", ["place", "one"], ["where"]),
        node("Add", ["where", "wide"], ["far"]), node("Cast", ["far"], ["z"], to=FLOAT),
    ]
    weights = [constant("one", 1, "int64"), constant("from", [0], "int64"), constant("until", [2**62], "int64"),
               constant("axes", [1], "int64"), constant("wide", 2**40, "int64")]
    return build(nodes, [value("x", INT64, ["N", 6])],
                 [value("more", INT64, ["N", 6]), value("z", FLOAT, ["N"])], weights)


def test_int64_is_computed_in_int32_where_it_fits() -> None:
    """The border keeps int64; a constant beyond int32 keeps its node; constants that are only read stay as they are."""
    model = counting()
    made = narrow.apply(model)
    known = values(made)
    types = {one.op_type: known.types[one.output[0]] for one in made.graph.node if one.op_type != "Cast"}
    assert types == {"Add": "int64", "Slice": "int32", "ArgMax": "int64", "Mul": "int32"}
    first = next(one for one in made.graph.node if one.op_type == "Add")
    assert known.types[first.output[0]] == "int32"
    assert next(known.types[one.input[0]] for one in made.graph.node if one.output[0] == "z") == "int64"
    x = np.random.default_rng(4).integers(-9, 9, (3, 6))
    same(model, made, x=x)
    assert narrow.apply(graphs.mlp()) == graphs.mlp()


def test_int8_is_found_by_calibration() -> None:
    """QuantizeLinear and DequantizeLinear stand around the products; without feeds, or products, it is refused."""
    model = graphs.mlp()
    x = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float32)
    made = quantise.apply(model, calibration=[{"x": x}])
    assert {"QuantizeLinear", "DequantizeLinear", "Gemm"} <= set(operators(made))
    checker.check_model(made, full_check=True)
    with pytest.raises(PassError, match="needs calibration data"):
        quantise.apply(model, calibration=[])
    with pytest.raises(PassError, match="no node of it can compute in int8"):
        quantise.apply(graphs.integers(), calibration=[{"x": np.ones((1, 2), np.int64)}])


def test_names_become_plain_and_unique() -> None:
    """Slashes, colons, nothing and twins: afterwards letters, digits and underscores; the border keeps its names."""
    nodes = [node("Neg", ["plant/x:0"], ["a/b"], name="n"), node("Abs", ["a/b"], ["a:b"], name="n"),
             node("Add", ["a:b", "w/1"], ["out/y:0"])]
    model = build(nodes, [value("plant/x:0", FLOAT, ["N", 6])], [value("out/y:0", FLOAT, ["N", 6])],
                  [constant("w/1", np.arange(6))])
    made = names.apply(model)
    assert [one.name for one in made.graph.node] == ["n", "n_2", "Add_2"]
    inner = {name for one in made.graph.node for name in (*one.input, *one.output)} - {"plant/x:0", "out/y:0"}
    assert inner == {"a_b", "a_b_2", "w_1"}
    feeds: dict[str, Any] = {"plant/x:0": X}
    same(model, made, **feeds)


@pytest.mark.parametrize("proto", [graphs.mlp, graphs.two_outputs, graphs.scalar, reshaping, overflow_inside, counting])
def test_a_pass_leaves_what_it_is_given(proto: Callable[[], onnx.ModelProto]) -> None:
    """The graph from before it is needed when its check fails."""
    model, before = proto(), proto()
    for change in (fold.apply, names.apply, narrow.apply, half.apply, lambda one: shapes.apply(one, batch=3),
                   lambda one: opset.apply(one, version=15, ir=8)):
        change(model)
        assert model == before


def test_weights_among_the_inputs_are_not_fed() -> None:
    """Files of IR 3 list them: they are no inputs, and what is made of such a file lists them no more."""
    model = reshaping(ir=3)
    assert [one.name for one in fed(model)] == ["x"]
    made = half.apply(model)
    assert ([one.name for one in made.graph.input], made.ir_version) == (["x"], 4)
    assert TensorProto.FLOAT16 in {one.data_type for one in made.graph.initializer}
