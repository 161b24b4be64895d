"""Tests are named after the rules of passes/recognise_activations.py."""

import math

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, normal, only, ops
from secateur.graph.ir import Activation
from secateur.graph.passes.fuse_activation import fuse_activation
from secateur.graph.passes.recognise_activations import recognise_activations
from secateur.graph.passes.remove_dead import remove_dead

X = {"x": (2, 3, 4, 5)}
NUMBERS = {
    name: np.float32(value)
    for name, value in {
        "half": 0.5, "one": 1, "two": 2, "three": 3, "six": 6, "zero": 0, "sixth": 1 / 6, "root2": math.sqrt(2),
        "rsqrt2": math.sqrt(0.5), "k": math.sqrt(2 / math.pi), "cubic": 0.044715, "odd": 1.702,
    }.items()
}  # fmt: skip


def chain(*steps: str):
    """ "Mul x s -> y" per step."""
    nodes = []
    for step in steps:
        left, output = step.split(" -> ")
        op, inputs = left.split(" ", 1)
        nodes.append(node(op, inputs, output))
    return normal(graph_of(nodes, X, NUMBERS))


CLIP = ("Add x three -> a", "Clip a zero six -> c")
ERF = ("Div x root2 -> u", "Erf u -> e", "Add e one -> t")
FORMS = {
    "hard_sigmoid": [
        (*CLIP, "Div c six -> y"),
        (*CLIP, "Mul sixth c -> y"),
        ("Add three x -> a", "Relu a -> r", "Min r six -> c", "Div c six -> y"),
    ],
    "hard_swish": [
        ("HardSigmoid x -> s", "Mul x s -> y"),
        (*CLIP, "Mul x c -> m", "Div m six -> y"),
        (*CLIP, "Div c six -> d", "Mul d x -> y"),
        (*CLIP, "Mul c sixth -> d", "Mul x d -> y"),
    ],
    "silu": [("Sigmoid x -> s", "Mul x s -> y"), ("Sigmoid x -> s", "Mul s x -> y")],
    "mish": [("Softplus x -> p", "Tanh p -> t", "Mul x t -> y")],
    "gelu": [
        (*ERF, "Mul x half -> h", "Mul h t -> y"),
        (*ERF, "Mul x t -> h", "Mul h half -> y"),
        (*ERF, "Mul half t -> h", "Mul x h -> y"),
        (*ERF, "Mul t x -> h", "Div h two -> y"),
        ("Mul x rsqrt2 -> u", "Erf u -> e", "Add one e -> t", "Mul t half -> h", "Mul h x -> y"),
    ],
    "gelu_tanh": [
        ("Pow x three -> p", "Mul p cubic -> q", "Add x q -> r", "Mul r k -> v", "Tanh v -> h", "Add h one -> t",
         "Mul x half -> m", "Mul m t -> y"),
        ("Mul x x -> p", "Mul p x -> p3", "Mul cubic p3 -> q", "Add q x -> r", "Mul k r -> v", "Tanh v -> h",
         "Add one h -> t", "Mul x t -> m", "Mul m half -> y"),
        ("Mul x k -> a", "Mul cubic x -> b", "Mul b x -> c", "Add c one -> d", "Mul a d -> v", "Tanh v -> h",
         "Add h one -> t", "Mul half x -> m", "Mul m t -> y"),
        ("Pow x two -> p", "Mul cubic p -> q", "Add one q -> d", "Mul x d -> r", "Mul r k -> v", "Tanh v -> h",
         "Add h one -> t", "Mul half t -> m", "Mul m x -> y"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "steps"), [(kind, form) for kind, forms in FORMS.items() for form in forms])
def test_rule_1_every_grouping(kind: str, steps: tuple[str, ...]):
    if steps[0].startswith("HardSigmoid"):
        nodes = [node("HardSigmoid", "x", "s", alpha=1 / 6, beta=0.5), node("Mul", "x s", "y")]
        graph = normal(graph_of(nodes, X))
    else:
        graph = chain(*steps)
    after = graph
    for _ in range(3):
        after = remove_dead(recognise_activations(after))
    assert ops(after) == ["Activate"]
    activation = only(after, "Activate").attributes["activation"]
    assert activation.kind == kind
    assert kind != "hard_sigmoid" or (activation.alpha, activation.beta) == (1 / 6, 0.5)
    assert_same(graph, after)


@pytest.mark.parametrize(
    "steps",
    [
        ("Mul x odd -> o", "Sigmoid o -> s", "Mul x s -> y"),
        ("Add x two -> a", "Clip a zero six -> c", "Div c six -> y"),
        ("Add x three -> a", "Clip a zero three -> c", "Div c six -> y"),
        (*CLIP, "Mul x c -> y"),
        ("Mul x half -> u", "Erf u -> e", "Add e one -> t", "Mul x half -> h", "Mul h t -> y"),
        ("Abs x -> b", "Sigmoid b -> s", "Mul x s -> y"),
        ("Softplus x -> p", "Sigmoid p -> t", "Mul x t -> y"),
    ],
)
def test_rule_1_what_is_nearly_one_stays(steps):
    graph = chain(*steps)
    assert recognise_activations(graph) is graph


@pytest.mark.parametrize(
    ("steps", "activation"),
    [
        (("Max x zero -> y",), Activation("relu")),
        (("Min six x -> y",), Activation("clip", -math.inf, 6)),
        (("Max x one -> y",), Activation("clip", 1, math.inf)),
        (("Max x zero -> r", "Min r six -> y"), Activation("clip", 0, 6)),
        (("Relu x -> r", "Clip r one six -> y"), Activation("clip", 1, 6)),
        (("Clip x one six -> r", "Relu r -> y"), Activation("clip", 1, 6)),
        (("Clip x three six -> r", "Clip r zero one -> y"), Activation("clip", 1, 1)),
    ],
)
def test_rules_2_and_3_bounds(steps, activation: Activation):
    graph = chain(*steps)
    after = graph
    for _ in range(2):
        after = remove_dead(recognise_activations(after))
    assert ops(after) == ["Activate"] and only(after, "Activate").attributes["activation"] == activation
    assert_same(graph, after)


def test_rule_4_fused_activations_are_not_looked_into():
    graph = fuse_activation(chain("Sigmoid x -> s", "Mul x s -> m", "Relu m -> y"))
    assert ops(graph) == ["Activate", "Mul"]
    assert recognise_activations(graph) is graph


def test_broadcasting_gates_stay():
    nodes = [node("Sigmoid", "g", "s"), node("Mul", "x s", "y")]
    graph = normal(graph_of(nodes, {**X, "g": (2, 3, 1, 1)}))
    assert recognise_activations(graph) is graph
