"""Nodes with operands and attributes that ONNX does not give them are sentences."""

import numpy as np
import pytest
from onnx import helper

from graph_tools import model_of, node, numbers
from secateur.errors import ModelError
from secateur.graph.load import load_graph
from secateur.graph.signature import signature_of

W = {"w": numbers(4, 3, 3, 3), "s": np.array([2, 2])}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (node("Conv", "x", "y"), "has 1 inputs; opset allows 2 to 3"),
        (node("Conv", "x w w w", "y"), "has 4 inputs"),
        (node("Relu", "x", "y z"), "has 2 outputs"),
        (node("Conv", "- w", "y"), "lacks its input 0"),
        (node("Conv", "x w", "y", strides="2"), "attribute 'strides' with the wrong type"),
        (node("Conv", "x w", "y", group=1.5), "attribute 'group' with the wrong type"),
        (node("Concat", "x x", "y"), "lacks its attribute 'axis'"),
    ],
)
def test_what_does_not_fit(bad, words: str):
    with pytest.raises(ModelError, match=f"operator {bad.op_type} .*{words}"):
        load_graph(model_of([bad], {"x": (1, 3, 8, 8)}, W))


def test_an_attribute_twice():
    twice = node("Conv", "x w", "y", group=1)
    twice.attribute.append(helper.make_attribute("group", 3))
    with pytest.raises(ModelError, match="an attribute twice"):
        load_graph(model_of([twice], {"x": (1, 3, 8, 8)}, W))


@pytest.mark.parametrize(
    "fine",
    [
        node("Sum", "x x x", "y"),
        node("Resize", "x - - s", "y", axes=[2, 3]),
        node("MaxPool", "x", "y", kernel_shape=[2, 2]),
    ],
)
def test_what_onnx_allows_passes(fine):
    assert load_graph(model_of([fine], {"x": (1, 3, 8, 8)}, W, opset=18)).shape("y")[0] == 1


def test_an_unknown_operator_has_no_signature():
    assert signature_of("Nothing", 17) is None
    found = signature_of("Split", 17)
    assert found is not None and found.inputs == (1, 2) and "axis" in found.attributes
