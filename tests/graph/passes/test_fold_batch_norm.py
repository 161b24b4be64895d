"""Tests are named after the rules of passes/fold_batch_norm.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, normal, numbers, only, ops
from secateur.graph.passes.fold_batch_norm import fold_batch_norm

NORM = {"g": numbers(6), "b": numbers(6, seed=2), "m": numbers(6, seed=3), "v": numbers(6, seed=4, low=0.1)}


def graph_with(op: str, weight: np.ndarray, shape=(2, 4, 7, 7), more=(), outputs: str = "y", bias=None, **options):
    first = node(op, "x w" if bias is None else "x w c", "h", **options)
    norm = node("BatchNormalization", "h g b m v", "y")
    extra = {} if bias is None else {"c": bias}
    return normal(graph_of([first, norm, *more], {"x": shape}, {"w": weight, **NORM, **extra}, outputs))


def test_rule_1_a_second_reader_or_an_output_blocks():
    weight = numbers(6, 4, 3, 3)
    for graph in (graph_with("Conv", weight, more=[node("Relu", "h", "z")], outputs="y z"),
                  graph_with("Conv", weight, outputs="y h")):  # fmt: skip
        assert fold_batch_norm(graph) is graph


def test_rule_2_an_activation_blocks():
    nodes = [node("Conv", "x w", "h"), node("Relu", "h", "r"), node("BatchNormalization", "r g b m v", "y")]
    graph = normal(graph_of(nodes, {"x": (1, 4, 7, 7)}, {"w": numbers(6, 4, 3, 3), **NORM}))
    assert fold_batch_norm(graph) is graph


@pytest.mark.parametrize("bias", [None, numbers(6, seed=9)])
def test_rule_3_bias_is_made(bias):
    graph = graph_with("Conv", numbers(6, 4, 3, 3), bias=bias)
    after = fold_batch_norm(graph)
    assert ops(after) == ["Conv"] and only(after, "Conv").input(2)
    assert_same(graph, after)


@pytest.mark.parametrize(
    ("op", "weight", "shape", "options"),
    [
        ("Conv", (6, 2, 3, 3), (2, 4, 7, 7), {"group": 2}),
        ("Conv", (6, 1, 3, 3), (2, 6, 7, 7), {"group": 6}),
        ("ConvTranspose", (4, 6, 3, 3), (2, 4, 7, 7), {}),
        ("ConvTranspose", (4, 3, 3, 3), (2, 4, 7, 7), {"group": 2}),
        ("Gemm", (4, 6), (3, 4), {}),
    ],
)
def test_rule_3_every_kind_of_weight(op: str, weight, shape, options):
    graph = graph_with(op, numbers(*weight), shape, **options)
    after = fold_batch_norm(graph)
    assert len(after.nodes) == 1
    assert_same(graph, after)


def test_rule_4_zeros_stay_zero():
    weight = numbers(6, 4, 3, 3)
    weight[np.random.default_rng(0).random(weight.shape) < 0.8] = 0
    after = fold_batch_norm(graph_with("Conv", weight))
    np.testing.assert_array_equal(after.constants[only(after, "Conv").inputs[1]] == 0, weight == 0)


def test_rule_4_nothing_becomes_infinite():
    weight = numbers(6, 4, 3, 3)
    weight[0, 0, 0, 0] = 3e38
    nodes = [node("Conv", "x w", "h"), node("BatchNormalization", "h g b m v", "y")]
    constants = {"w": weight, **NORM, "g": np.full(6, 10, np.float32)}
    graph = normal(graph_of(nodes, {"x": (1, 4, 7, 7)}, constants))
    assert fold_batch_norm(graph) is graph
