"""Tests are named after the rules of passes/normal_activations.py."""

import math

import numpy as np
import pytest

from graph_tools import assert_same, feeds_of, graph_of, node, numbers, only, run_model
from secateur.graph.activations import apply_activation
from secateur.graph.ir import Activation
from secateur.graph.passes.normal_activations import normal_activations
from secateur.graph.to_onnx import to_onnx

X = {"x": (2, 3, 4, 5)}


@pytest.mark.parametrize("opset", [11, 14, 18, 20, 22])
@pytest.mark.parametrize(
    ("op", "options", "activation", "since"),
    [
        ("Abs", {}, Activation("abs"), 11),
        ("Elu", {"alpha": 0.5}, Activation("elu", 0.5), 11),
        ("Erf", {}, Activation("erf"), 11),
        ("Exp", {}, Activation("exp"), 11),
        ("Gelu", {}, Activation("gelu"), 20),
        ("Gelu", {"approximate": "tanh"}, Activation("gelu_tanh"), 20),
        ("HardSigmoid", {"alpha": 0.25, "beta": 0.375}, Activation("hard_sigmoid", 0.25, 0.375), 11),
        ("HardSwish", {}, Activation("hard_swish"), 14),
        ("LeakyRelu", {"alpha": 0.125}, Activation("leaky_relu", 0.125), 11),
        ("Mish", {}, Activation("mish"), 18),
        ("Neg", {}, Activation("neg"), 11),
        ("Reciprocal", {}, Activation("reciprocal"), 11),
        ("Relu", {}, Activation("relu"), 11),
        ("Sigmoid", {}, Activation("sigmoid"), 11),
        ("Softplus", {}, Activation("softplus"), 11),
        ("Sqrt", {}, Activation("sqrt"), 11),
        ("Tanh", {}, Activation("tanh"), 11),
    ],
)
def test_rule_1_every_function(op: str, options, activation: Activation, since: int, opset: int):
    if opset < since:
        pytest.skip(f"{op} is younger than opset {opset}")
    graph = graph_of([node(op, "x", "y", **options)], X, opset=opset)
    after = normal_activations(graph)
    assert only(after, "Activate").attributes["activation"] == activation
    (found,) = assert_same(graph, after)
    wanted = apply_activation(activation, feeds_of(graph)["x"].astype(np.float64))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("low", "high", "activation"),
    [
        (0, 6, Activation("clip", 0, 6)),
        (-1, None, Activation("clip", -1, math.inf)),
        (None, 1, Activation("clip", -math.inf, 1)),
        (None, None, Activation("clip", -math.inf, math.inf)),
        (0, None, Activation("relu")),
        (2, 1, Activation("clip", 2, 1)),
    ],
)
def test_rule_2_clip(low, high, activation: Activation):
    constants = {name: np.float32(value) for name, value in (("l", low), ("h", high)) if value is not None}
    names = " ".join(name if name in constants else "-" for name in ("l", "h"))
    graph = graph_of([node("Clip", f"x {names}", "y")], X, constants)
    after = normal_activations(graph)
    assert only(after, "Activate").attributes["activation"] == activation
    assert_same(graph, after)


def test_rule_2_variable_bounds_stay():
    graph = graph_of([node("Clip", "x l", "y")], {**X, "l": ()})
    assert normal_activations(graph) is graph


@pytest.mark.parametrize(("slope", "kind"), [((3, 1, 1), "prelu"), ((1, 3, 1, 1), "prelu"), ((1,), "leaky_relu")])
def test_rule_3_prelu(slope, kind: str):
    graph = graph_of([node("PRelu", "x s", "y")], X, {"s": numbers(*slope)})
    after = normal_activations(graph)
    found = only(after, "Activate")
    assert found.attributes["activation"].kind == kind
    assert kind == "leaky_relu" or after.shape(found.inputs[1]) == (3,)
    assert_same(graph, after)


def test_rule_3_other_slopes_stay():
    graph = graph_of([node("PRelu", "x s", "y")], X, {"s": numbers(5)})
    assert normal_activations(graph) is graph


def test_rule_4_gelu_is_computed_in_old_opsets_too():
    graph = graph_of([node("Gelu", "x", "y", approximate="tanh")], X, opset=20)
    after = normal_activations(graph)
    older = after.with_nodes(after.nodes, opset=13)
    feeds = feeds_of(graph)
    np.testing.assert_allclose(run_model(to_onnx(older), feeds)[0], run_model(to_onnx(graph), feeds)[0], atol=2e-6)
