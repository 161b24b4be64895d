"""Shapes of Resize by scales are those that ONNX Runtime computes, where ONNX's shape inference is one too small."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import secateur
from graph_tools import graph_of, model_of, node, numbers, run_model
from secateur.graph.load import load_graph
from secateur.graph.shapes import infer_shapes

SCALES = (0.35, 0.7, 0.9, 1 / 3, 1.3, 1.4, 1.7, 2.3, 2.0)
SIDES = (9, 10, 20, 30)
EMPTY = np.zeros(0, np.float32)


def resized(height: float, width: float, side: int, opset: int, **attributes) -> onnx.ModelProto:
    attributes = {"mode": "linear"} | attributes
    scales = np.array([1, 1, height, width], np.float32)
    return model_of([node("Resize", "x r s", "y", **attributes)], {"x": (1, 2, side, side)}, {"r": EMPTY, "s": scales},
                    opset=opset)  # fmt: skip


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 19])
def test_scales_that_float32_rounds(opset: int):
    for scale in SCALES:
        for side in SIDES:
            model = resized(scale, 1 / scale, side, opset)
            (wanted,) = run_model(model, {"x": numbers(1, 2, side, side)})
            assert load_graph(model).shape("y") == wanted.shape == infer_shapes(model).of["y"], (scale, side)


def test_sides_are_those_of_torch():
    for scale in SCALES:
        for side in SIDES:
            wanted = torch.nn.functional.interpolate(torch.zeros(1, 2, side, side), scale_factor=scale)
            assert load_graph(resized(scale, scale, side, 13)).shape("y") == tuple(wanted.shape)


@pytest.mark.parametrize("opset", [18, 19])
def test_axes(opset: int):
    resize = node("Resize", "x - s", "y", axes=[-1, 2])
    graph = graph_of([resize], {"x": (1, 2, 10, 10)}, {"s": np.array([0.7, 1.3], np.float32)}, opset=opset)
    assert graph.shape("y") == (1, 2, 13, 7)


def test_upsample_of_old_opsets():
    model = model_of([node("Upsample", "x s", "y")], {"x": (1, 2, 10, 10)},
                     {"s": np.array([1, 1, 1.3, 1.4], np.float32)}, opset=9)  # fmt: skip
    assert load_graph(model).shape("y") == (1, 2, 13, 14) == infer_shapes(model).of["y"]


@pytest.mark.parametrize("declared", [None, (1, 2, 6, 6), (1, 2, 7, 7), ("n", 2, "h", "w")])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_what_runs_is_what_the_session_says(declared, mode: str):
    """ONNX Runtime's numbers, also where the file itself names the shape of ONNX's inference."""
    model = resized(0.7, 0.7, 10, 13, mode=mode)
    if declared is not None:
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, declared))
    feeds = {"x": numbers(1, 2, 10, 10)}
    (wanted,) = run_model(model, feeds)
    session = secateur.compile(model, threads=1)
    found = session.run(feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    (said,) = session.outputs
    assert said.sides == (("n", 2, "h", "w") if declared and declared[0] == "n" else wanted.shape)


@pytest.mark.parametrize("antialias", [0, 1])
def test_layers_behind_fit_too(antialias: int):
    """With antialias the operator runs in ONNX Runtime."""
    constants = {"s": np.array([1, 1, 0.7, 0.7], np.float32), "w": numbers(3, 2, 3, 3)}
    nodes = [
        node("Resize", "x - s", "r", mode="linear", antialias=antialias),
        node("Conv", "r w", "c", kernel_shape=[3, 3]),
        node("Flatten", "c", "y"),
    ]
    model = model_of(nodes, {"x": (1, 2, 10, 10)}, constants, opset=18)
    feeds = {"x": numbers(1, 2, 10, 10)}
    (wanted,) = run_model(model, feeds)
    found = secateur.compile(model, threads=1).run(feeds)["y"]
    assert wanted.shape == (1, 75)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
