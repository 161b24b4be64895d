"""Small networks for quantizers, images for them, and what everybody should make of the files."""

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader

import secateur
from graph_tools import feeds_of, model_of, node, numbers, run_model
from quantized_graphs import outputs_in_numpy
from secateur.graph.ir import Graph
from secateur.graph.to_onnx import to_onnx

SIDES = {"x": (1, 8, 9, 9)}
SAME = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}


def residual() -> onnx.ModelProto:
    """Two blocks, the second one with a convolution in the shortcut."""
    nodes = [
        node("Conv", "x a", "a1", **SAME), node("Relu", "a1", "a2"),
        node("Conv", "a2 b", "b1", **SAME), node("Add", "b1 x", "b2"), node("Relu", "b2", "b3"),
        node("Conv", "b3 c", "c1", strides=[2, 2], **SAME), node("Relu", "c1", "c2"),
        node("Conv", "c2 d", "d1", **SAME), node("Conv", "b3 e", "e1", strides=[2, 2], kernel_shape=[1, 1]),
        node("Add", "d1 e1", "d2"), node("Relu", "d2", "d3"),
        node("GlobalAveragePool", "d3", "p"), node("Flatten", "p", "f"), node("Gemm", "f g h", "y"),
    ]  # fmt: skip
    weights = {name: numbers(8, 8, 3, 3, seed=i) / 4 for i, name in enumerate("ab")}
    weights |= {"c": numbers(12, 8, 3, 3) / 4, "d": numbers(12, 12, 3, 3) / 4, "e": numbers(12, 8, 1, 1)}
    return model_of(nodes, SIDES, {**weights, "g": numbers(12, 5), "h": numbers(5)})


def depthwise() -> onnx.ModelProto:
    """An inverted residual with squeeze-and-excitation and hard-swish."""
    nodes = [
        node("Conv", "x a ab", "a1", kernel_shape=[1, 1]), node("HardSwish", "a1", "a2"),
        node("Conv", "a2 b", "b1", group=16, **SAME), node("HardSwish", "b1", "b2"),
        node("GlobalAveragePool", "b2", "s1"), node("Conv", "s1 s sb", "s2", kernel_shape=[1, 1]),
        node("Relu", "s2", "s3"),
        node("Conv", "s3 t tb", "t1", kernel_shape=[1, 1]), node("HardSigmoid", "t1", "t2", alpha=1 / 6),
        node("Mul", "b2 t2", "m"), node("Conv", "m c", "c1", kernel_shape=[1, 1]), node("Add", "c1 x", "r"),
        node("Clip", "r low high", "y"),
    ]  # fmt: skip
    weights = {"a": numbers(16, 8, 1, 1), "ab": numbers(16), "b": numbers(16, 1, 3, 3), "c": numbers(8, 16, 1, 1) / 2}
    gates = {"s": numbers(4, 16, 1, 1), "sb": numbers(4), "t": numbers(16, 4, 1, 1), "tb": numbers(16)}
    bounds = {"low": np.float32(0), "high": np.float32(6)}
    return model_of(nodes, SIDES, {**weights, **gates, **bounds})


def branches() -> onnx.ModelProto:
    """A fire module between pools."""
    nodes = [
        node("Conv", "x a", "a1", kernel_shape=[1, 1]), node("Relu", "a1", "a2"),
        node("Conv", "a2 b", "b1", kernel_shape=[1, 1]), node("Relu", "b1", "b2"),
        node("Conv", "a2 c", "c1", **SAME), node("Relu", "c1", "c2"), node("Concat", "b2 c2", "d", axis=1),
        node("MaxPool", "d", "m", kernel_shape=[3, 3], strides=[2, 2]),
        node("Conv", "m e", "e1", kernel_shape=[1, 1]), node("AveragePool", "e1", "y", kernel_shape=[2, 2]),
    ]  # fmt: skip
    weights = {"a": numbers(4, 8, 1, 1), "b": numbers(6, 4, 1, 1), "c": numbers(6, 4, 3, 3), "e": numbers(5, 12, 1, 1)}
    return model_of(nodes, SIDES, weights)


def shuffle() -> onnx.ModelProto:
    """A unit of ShuffleNetV2."""
    shapes = {"five": [1, 2, 4, 9, 9], "four": [1, 8, 9, 9], "halves": [4, 4]}
    nodes = [
        node("Split", "x halves", "l r", axis=1), node("Conv", "r a", "a1", kernel_shape=[1, 1]),
        node("Relu", "a1", "a2"), node("Conv", "a2 b", "b1", group=4, **SAME),
        node("Conv", "b1 c", "c1", kernel_shape=[1, 1]), node("Relu", "c1", "c2"),
        node("Concat", "l c2", "d", axis=1), node("Reshape", "d five", "e"),
        node("Transpose", "e", "f", perm=[0, 2, 1, 3, 4]), node("Reshape", "f four", "g"),
        node("Conv", "g h", "y", kernel_shape=[1, 1]),
    ]  # fmt: skip
    weights = {"a": numbers(4, 4, 1, 1), "b": numbers(4, 1, 3, 3), "c": numbers(4, 4, 1, 1), "h": numbers(6, 8, 1, 1)}
    return model_of(nodes, SIDES, {**weights, **{key: np.array(value, np.int64) for key, value in shapes.items()}})


NETWORKS = {"residual": residual, "depthwise": depthwise, "branches": branches, "shuffle": shuffle}


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._images = iter([{"x": 3 * rng.standard_normal(SIDES["x"]).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._images, None)


def agree(model: onnx.ModelProto, graph: Graph, share: float, most: int = 2) -> None:
    """The definition, the expansion, and the engine are ONNX Runtime's optimized network up to `most` steps."""
    feeds = feeds_of(graph)
    (found,) = outputs_in_numpy(graph, feeds)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, feeds)[0]
    last = next(n for n in reversed(graph.nodes) if n.op in ("Dequantize", "Quantize", "QConv", "QLinear"))
    step = last.attributes.get("scale") or 0.01 * np.abs(wanted).max()
    distance = np.abs(found - wanted) / step
    assert distance.max() <= most + 1e-3, distance.max()
    assert np.mean(distance < 1e-3) >= share
    assert np.allclose(run_model(to_onnx(graph), feeds)[0], found, atol=1e-5)
    with secateur.compile(model, threads=1) as compiled:
        ours = next(iter(compiled.run(feeds).values()))
    assert ours.shape == wanted.shape and ours.dtype == wanted.dtype
    distance = np.abs(ours - found) / step
    assert distance.max() <= most + 1e-3 and np.mean(distance < 1e-3) >= 0.98
