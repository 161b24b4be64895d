"""Tests are named after the rules of passes/recognise_squeeze_excite.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, model_of, node, numbers, only, ops
from secateur.graph.ir import Graph
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.passes.recognise_squeeze_excite import recognise_squeeze_excite

X = {"x": (2, 6, 5, 7)}
WEIGHTS = {
    "k1": numbers(3, 6, 1, 1),
    "a1": numbers(3),
    "k2": numbers(6, 3, 1, 1, seed=1),
    "a2": numbers(6),
    "hw": np.array([2, 3]),
    "row": np.array([2, 6]),
    "map": np.array([2, 6, 1, 1]),
    "pixels": np.array([2, 6, -1]),
    "last": np.array([2]),
    "three": np.array(3, np.float32),
    "six": np.array(6, np.float32),
    "zero": np.array(0, np.float32),
    "sixth": np.array(1 / 6, np.float32),
    "half": np.array(0.5, np.float32),
    "one": np.array(1, np.float32),
}
MATRICES = {"m1": numbers(6, 3), "m2": numbers(6, 3, seed=1)}
FC1, FC2 = node("Conv", "m k1 a1", "s"), node("Conv", "h k2 a2", "e")
MEAN, RELU, SIGMOID, MUL = (
    node("GlobalAveragePool", "x", "m"),
    node("Relu", "s", "h"),
    node("Sigmoid", "e", "g"),
    node("Mul", "x g", "y"),
)
PLAIN = [MEAN, FC1, RELU, FC2, SIGMOID, MUL]


def found(nodes, left=("SqueezeExcite",), outputs: str = "y", opset: int = 18, x=X, **constants) -> Graph:
    """The graph in normal form, which has these operators left and computes the same."""
    model = model_of(nodes, x, {**WEIGHTS, **MATRICES, **constants}, outputs, opset)
    graph = simplify(load_graph(model))
    assert ops(graph) == list(left)
    assert_same(model, graph)
    return graph


def kept(nodes, outputs: str = "y", **constants) -> None:
    model = model_of(nodes, X, {**WEIGHTS, **MATRICES, **constants}, outputs, 18)
    graph = simplify(load_graph(model))
    assert "SqueezeExcite" not in ops(graph)
    assert_same(model, graph)


def test_the_node() -> None:
    named = [node("Conv", "m k1 a1", "s", name="fc1"), RELU, node("Conv", "h k2 a2", "e", name="fc2")]
    se = only(found([MEAN, *named, SIGMOID, node("Mul", "x g", "y", name="scale")]), "SqueezeExcite")
    assert (se.name, se.inputs[0], se.inputs[2], se.inputs[4:]) == ("scale", "x", "a1", ("a2",))
    assert se.attributes["layers"] == ("fc1", "fc2") and {"fc1", "fc2"} < set(se.absorbed)
    assert {key: str(se.attributes[key]) for key in ("hidden", "gate", "activation")} == {
        "hidden": "relu", "gate": "sigmoid", "activation": "None",
    }  # fmt: skip


def test_the_matrices_are_those_of_the_file() -> None:
    graph = found(PLAIN)
    se = only(graph, "SqueezeExcite")
    np.testing.assert_array_equal(graph.constants[se.inputs[1]], WEIGHTS["k1"][:, :, 0, 0])
    np.testing.assert_array_equal(graph.constants[se.inputs[3]], WEIGHTS["k2"][:, :, 0, 0])


def test_rule_1_either_order() -> None:
    found([*PLAIN[:-1], node("Mul", "g x", "y")])


def test_rule_1_a_gate_for_another_value_stays() -> None:
    nodes = [*PLAIN[:-1], node("Neg", "x", "z"), node("Mul", "z g", "y")]
    kept(nodes)
    kept([*PLAIN[:-1], node("Add", "x g", "y")])
    kept([*PLAIN[:-1], node("Mul", "x x", "z"), node("Mul", "z g", "y")])


def test_rule_1_one_pixel() -> None:
    nodes = [node("Relu", "x", "z"), node("Conv", "z k1 a1", "s"), *PLAIN[2:5], node("Mul", "z g", "y")]
    model = model_of(nodes, {"x": (2, 6, 1, 1)}, WEIGHTS)
    assert_same(model, simplify(load_graph(model)))


MEANS = {
    "timm": [node("ReduceMean", "x hw", "m", keepdims=1)],
    "AveragePool": [node("AveragePool", "x", "m", kernel_shape=[5, 7])],
    "dropped axes": [node("ReduceMean", "x hw", "m0", keepdims=0), node("Reshape", "m0 map", "m")],
    "flattened maps": [
        node("Reshape", "x pixels", "p"),
        node("ReduceMean", "p last", "m0", keepdims=0),
        node("Reshape", "m0 map", "m"),
    ],
}


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS.keys())
def test_rule_2_means(mean) -> None:
    found([*mean, *PLAIN[1:]])


def test_rule_2_other_statistics_stay() -> None:
    for mean in (
        node("GlobalMaxPool", "x", "m"),
        node("AveragePool", "x", "m", kernel_shape=[5, 3], strides=[5, 7]),
        node("Slice", "x begin end hw", "m"),
    ):
        kept([mean, *PLAIN[1:]], begin=np.array([0, 0]), end=np.array([1, 1]))


def test_rule_2_grouped_and_wide_convolutions_stay() -> None:
    kept([MEAN, node("Conv", "m g1", "s", group=3), *PLAIN[2:]], g1=numbers(3, 2, 1, 1))
    wide = node("Conv", "m w1", "s", pads=[1, 1, 1, 1])
    kept([MEAN, wide, *PLAIN[2:]], w1=numbers(3, 6, 3, 3))


def test_rule_2_one_product_stays() -> None:
    kept([MEAN, node("Conv", "m k", "e"), SIGMOID, MUL], k=numbers(6, 6, 1, 1))


GATES = {
    "HardSigmoid": [node("HardSigmoid", "e", "g", alpha=1 / 6, beta=0.5)],
    "relu6(x + 3) / 6": [
        node("Add", "e three", "e1"), node("Clip", "e1 zero six", "e2"), node("Div", "e2 six", "g"),
    ],
    "relu6(x + 3) * (1 / 6)": [
        node("Add", "e three", "e1"), node("Clip", "e1 zero six", "e2"), node("Mul", "e2 sixth", "g"),
    ],
    "clip(x / 6 + 1 / 2, 0, 1)": [
        node("Mul", "e sixth", "e1"), node("Add", "e1 half", "e2"), node("Clip", "e2 zero one", "g"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES.keys())
def test_rule_3_gates(gate) -> None:
    found([*PLAIN[:4], *gate, MUL])


def test_rule_3_hidden_activations() -> None:
    for op in ("Relu", "Sigmoid", "HardSwish", "Tanh"):
        found([MEAN, FC1, node(op, "s", "h"), FC2, SIGMOID, MUL])
    silu = [node("Sigmoid", "s", "s1"), node("Mul", "s s1", "h")]
    assert only(found([MEAN, FC1, *silu, FC2, SIGMOID, MUL]), "SqueezeExcite").attributes["hidden"].kind == "silu"
    found([MEAN, FC1, node("Conv", "s k2 a2", "e"), SIGMOID, MUL])


def test_rule_3_other_gates_stay() -> None:
    for gate in ("Relu", "Tanh", "Exp"):
        kept([*PLAIN[:4], node(gate, "e", "g"), MUL])
    kept([*PLAIN[:3], node("Conv", "h k2 a2", "g"), MUL])
    kept([*PLAIN[:2], node("PRelu", "s slope", "h"), *PLAIN[3:]], slope=numbers(3, 1, 1))


def test_rule_3_a_residual_stays() -> None:
    kept([*PLAIN[:4], node("Add", "e m", "e1"), node("Sigmoid", "e1", "g"), MUL])


LINEAR = [node("Gemm", "r m1", "s"), RELU, node("Gemm", "h m2 a2", "e", transB=1)]


@pytest.mark.parametrize("flatten", ["Flatten", "Reshape", "Squeeze"])
@pytest.mark.parametrize("order", ["sigmoid first", "sigmoid last"])
def test_rule_4_gemm_between_reshapes(flatten: str, order: str) -> None:
    """As torch.nn.Linear is exported, with the view back to (n, c, 1, 1) before or after the gate."""
    operands = {"Flatten": "m", "Reshape": "m row", "Squeeze": "m hw"}[flatten]
    back = [node("Unsqueeze", "e hw", "e1"), node("Sigmoid", "e1", "g")]
    if order == "sigmoid first":
        back = [node("Sigmoid", "e", "e1"), node("Reshape", "e1 map", "g")]
    found([MEAN, node(flatten, operands, "r"), *LINEAR, *back, MUL])


def test_rule_4_matmul_and_add_on_dropped_axes() -> None:
    nodes = [
        node("ReduceMean", "x hw", "r", keepdims=0), node("MatMul", "r m1", "s0"), node("Add", "s0 a1", "s"), RELU,
        node("MatMul", "h t2", "e0"), node("Add", "e0 a2", "e"), SIGMOID, node("Unsqueeze", "g hw", "g1"),
        node("Mul", "x g1", "y"),
    ]  # fmt: skip
    found(nodes, t2=np.ascontiguousarray(MATRICES["m2"].T))


def test_rule_4_another_order_of_elements_stays() -> None:
    turned = [node("Transpose", "m", "t", perm=[1, 0, 2, 3]), node("Reshape", "t row", "r")]
    kept([MEAN, *turned, *LINEAR, node("Unsqueeze", "e hw", "e1"), node("Sigmoid", "e1", "g"), MUL])


@pytest.mark.parametrize("name", ["m", "s", "h", "e", "g"])
def test_rule_5_a_second_reader_or_an_output_blocks(name: str) -> None:
    kept([*PLAIN, node("Neg", name, "z")], "y z")
    if name not in ("s", "e"):
        kept(PLAIN, f"y {name}")


def test_rule_5_one_gate_for_two_values_stays() -> None:
    kept([*PLAIN, node("Neg", "x", "z"), node("Mul", "z g", "w")], "y w")


def test_sums_and_activations_behind_it_join_it() -> None:
    nodes = [*PLAIN[:-1], node("Mul", "x g", "p"), node("Add", "p r", "q"), node("Relu", "q", "y")]
    graph = found(nodes, x={**X, "r": (2, 6, 5, 7)})
    se = only(graph, "SqueezeExcite")
    assert se.input(5) == "r" and se.attributes["activation"].kind == "relu"
    found([*PLAIN[:-1], node("Mul", "x g", "p"), node("HardSwish", "p", "y")])


def test_several_in_a_row() -> None:
    again = [
        node("GlobalAveragePool", "y0", "n"), node("Conv", "n k1", "s2"), node("Relu", "s2", "h2"),
        node("Conv", "h2 k2", "e2"), node("Sigmoid", "e2", "g2"), node("Mul", "y0 g2", "y"),
    ]  # fmt: skip
    found([*PLAIN[:-1], node("Mul", "x g", "y0"), *again], left=("SqueezeExcite",) * 2)


@pytest.mark.parametrize("opset", [11, 13, 17, 22])
def test_every_opset(opset: int) -> None:
    found([node("GlobalAveragePool", "x", "m"), *PLAIN[1:]], opset=opset)


def test_a_graph_without_one_is_returned_as_it_is() -> None:
    graph = simplify(graph_of([node("Conv", "x k1", "y")], X, WEIGHTS))
    assert recognise_squeeze_excite(graph) is graph
