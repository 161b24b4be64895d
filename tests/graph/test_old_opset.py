"""Tests are named after the rules of graph/old_opset.py."""

import re

import numpy as np
import pytest

from graph_tools import assert_same, model_of, node
from secateur.errors import ModelError
from secateur.graph.load import load_graph
from secateur.graph.old_opset import reason_of

X = {"x": (1, 2, 4, 4)}


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("value", [None, 0.0, 1.5])
def test_rule_2_pads_that_mirror_have_no_value(opset: int, mode: str, value: float | None):
    given = {} if value is None else {"value": value}
    model = model_of([node("Pad", "x", "y", mode=mode, pads=[0, 0, 1, 1, 0, 0, 1, 2], **given)], X, opset=opset)
    before = model.SerializeToString()
    assert_same(model, load_graph(model))
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("made", "opset", "named"),
    [
        (node("ThresholdedRelu", "x", "y", alpha=1.0, name="gate"), 9, "ThresholdedRelu 'gate'"),
        (node("Pad", "x", "y", paddings=[0] * 8), 1, "Pad of opset 1"),
        (node("MeanVarianceNormalization", "x", "y"), 8, "MeanVarianceNormalization"),
        (node("TopK", "x", "y", k=1), 9, "TopK of opset 9"),
        (node("Reshape", "x", "y"), 4, "the model, of opset 4"),
        (node("Affine", "x", "y"), 3, "Affine, which opset 3 does not have"),
    ],
)
def test_rule_3_what_cannot_be_converted_is_named(made, opset: int, named: str):
    model = model_of([made], X)
    model.opset_import[0].version = opset
    with pytest.raises(ModelError) as caught:
        load_graph(model)
    said = str(caught.value)
    assert named in said and said.endswith(
        "cannot be converted to opset 11. Export the model again with opset 11 or newer."
    )
    assert not re.search(r"[/\\]|Assertion|Adapter|%|_", said), said


def test_reasons_have_no_place_in_the_source():
    text = (
        "/project/onnx/common/ir.h:283: find: Assertion `!required || it != values_.end()` failed: nothing there.\nmore"
    )
    assert reason_of(RuntimeError(text)) == "nothing there"
    assert reason_of(RuntimeError("")) == "RuntimeError" and reason_of(ValueError("as it is.")) == "as it is"


def test_rule_1_older_operators_give_the_same():
    nodes = [node("Upsample", "x s", "a", mode="nearest"), node("PRelu", "a p", "y")]
    constants = {"s": np.array([1, 1, 2, 2], np.float32), "p": np.full((2, 1, 1), 0.2, np.float32)}
    model = model_of(nodes, X, constants, opset=9)
    assert_same(model, load_graph(model))
