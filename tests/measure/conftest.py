"""Tiny ONNX networks, made without torch, and runtimes of known behaviour."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SHAPE = (3, 8, 8)
CLASSES = 6


def network_file(path: Path, *, batch: int | str = "batch", seed: int = 0, op: str = "Relu") -> Path:
    """Convolution, activation, global mean, linear layer."""
    random = np.random.default_rng(seed)
    weights = {
        "conv.weight": random.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "fc.weight": random.standard_normal((CLASSES, 8)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "conv.weight"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node(op, ["a"], ["b"], "act", domain="" if op == "Relu" else "nobody"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "mean"),
        helper.make_node("Flatten", ["c"], ["d"], "flatten"),
        helper.make_node("Gemm", ["d", "fc.weight"], ["logits"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def _numpy_logits(path: Path, images: np.ndarray) -> np.ndarray:
    """The same network by hand."""
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    features = np.einsum("nchwij,ocij->nohw", windows, weights["conv.weight"])
    return np.maximum(features, 0).mean((2, 3)) @ weights["fc.weight"].T


@pytest.fixture
def make_network(tmp_path: Path) -> Callable[..., Path]:
    return lambda name="model.onnx", **options: network_file(tmp_path / name, **options)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, *SHAPE)).astype(np.float32)


@pytest.fixture
def numpy_logits() -> Callable[[Path, np.ndarray], np.ndarray]:
    return _numpy_logits
