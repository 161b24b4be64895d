"""Tests are named after the rules of passes/normal_batch_norm.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, numbers, only
from secateur.graph.passes.normal_batch_norm import normal_batch_norm


def batch_norm(shape=(2, 3, 4, 5), variance=None, opset: int = 17, outputs: str = "y", **options):
    variance = numbers(3, seed=1, low=0.1) if variance is None else variance
    constants = {"g": numbers(3), "b": numbers(3, seed=2), "m": numbers(3, seed=3), "v": variance}
    norm = node("BatchNormalization", "x g b m v", outputs, **options)
    return graph_of([norm], {"x": shape}, constants, opset=opset)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3), (2, 3, 7)])
@pytest.mark.parametrize("opset", [11, 14, 15, 20])
def test_rule_2_one_scale_and_shift_per_channel(shape, opset: int):
    graph = batch_norm(shape, opset=opset, epsilon=0.01)
    after = normal_batch_norm(graph)
    found = only(after, "ScaleShift")
    assert after.shape(found.inputs[1]) == after.shape(found.inputs[2]) == (3,)
    assert_same(graph, after)


def test_rule_1_training_stays():
    graph = batch_norm(training_mode=1, outputs="y mean variance")
    assert normal_batch_norm(graph) is graph


def test_rule_3_numbers_are_finite():
    graph = batch_norm(variance=np.array([1, -1, 1], np.float32))
    assert normal_batch_norm(graph) is graph
