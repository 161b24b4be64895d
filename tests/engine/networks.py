"""Small ONNX networks for tests of whole sessions, made without torch; and ONNX Runtime as their oracle."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def value(name: str, sides: list[Any], kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sides)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray],
    **about: Any,
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **about)


def zeroed(shape: tuple[int, ...], sparsity: float, n: int = 1, seed: int = 0) -> np.ndarray:
    """Weights of which blocks of n neighbouring rows at one position are zero."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
    kept = random.random((shape[0] // n, *shape[1:])) >= sparsity
    return (weight * np.repeat(kept, n, axis=0)).astype(np.float32)


def classifier(
    batch: int | str | None = "batch", side: int | str = 16, sparsity: float = 0.8, n: int = 4
) -> onnx.ModelProto:
    """Convolution, sparse convolution with a residual sum, pointwise convolution, global mean, linear layer."""
    constants = {
        "stem.weight": zeroed((16, 3, 3, 3), 0.0),
        "body.weight": zeroed((16, 16, 3, 3), sparsity, n, 1),
        "point.weight": zeroed((32, 16, 1, 1), sparsity, n, 2),
        "fc.weight": zeroed((6, 32), 0.0, 1, 3),
        "fc.bias": np.arange(6, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "stem.weight"], ["a"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "act"),
        helper.make_node("Conv", ["b", "body.weight"], ["c"], "body", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"], "sum"),
        helper.make_node("Conv", ["d", "point.weight"], ["e"], "point"),
        helper.make_node("Relu", ["e"], ["f"], "act2"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], "mean"),
        helper.make_node("Flatten", ["g"], ["h"], "flatten"),
        helper.make_node("Gemm", ["h", "fc.weight", "fc.bias"], ["logits"], "fc", transB=1),
    ]
    return model(
        nodes, [value("input", [batch, 3, side, side])], [value("logits", [batch, 6])], constants,
        producer_name="tests", model_version=7,
    )  # fmt: skip


def images(batch: int, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, side, side)).astype(np.float32)


def reference(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))
