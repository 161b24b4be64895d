"""Small float networks in ONNX for the tests of quantization, and images for them."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime

from graph_tools import model_of, node

IMAGES = np.random.default_rng(1).standard_normal((12, 3, 8, 8)).astype(np.float32)


def draw(*shape, seed=0, scale=0.3):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def batches(images=IMAGES, size=4):
    return lambda: [images[start : start + size] for start in range(0, len(images), size)]


def residual():
    """Two convolutions, a sum with a ReLU behind it, a pool and a classifier."""
    nodes = [
        node("Conv", "x w1 b1", "c1", name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2 b2", "c2", name="conv2", pads=[1, 1, 1, 1]),
        node("Add", "c2 r1", "s", name="sum"),
        node("Relu", "s", "r2"),
        node("GlobalAveragePool", "r2", "p", name="pool"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w3 b3", "y", name="classifier", transB=1),
    ]
    constants = {
        "w1": draw(8, 3, 3, 3), "b1": draw(8, seed=1), "w2": draw(8, 8, 3, 3, seed=2), "b2": draw(8, seed=3),
        "w3": draw(5, 8, seed=4), "b3": draw(5, seed=5),
    }  # fmt: skip
    return model_of(nodes, {"x": ("n", 3, 8, 8)}, constants)


def run(model, images=IMAGES, outputs=None, optimized=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(outputs, {session.get_inputs()[0].name: images})


def kinds(model):
    return Counter(each.op_type for each in model.graph.node)


def stored(model):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
