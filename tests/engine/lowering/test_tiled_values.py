"""Which values lie in tiles, and that networks with them give the right results."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from secateur.engine.lowering.tile_size import RegisterTile
from secateur.engine.lowering.tiled_values import tiled_values
from secateur.engine.pitches import map_pads
from secateur.engine.session import compile_onnx
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify

SIDE = 20


def network(*convolutions: tuple, side: int = SIDE, batch: int | str = 1, extra=()) -> onnx.ModelProto:
    """Convolutions (name, input, channels in, channels out, kernel, stride, residual), ReLU after each."""
    rng = np.random.default_rng(0)
    nodes, constants = [], []
    for name, x, c, o, kernel, stride, residual in convolutions:
        weight = rng.standard_normal((o, c, kernel, kernel)) * (rng.random((o, c, 1, 1)) < 0.5) / np.sqrt(c * kernel)
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}_w"))
        pads = [kernel // 2] * 4
        out = f"{name}_sum" if residual else f"{name}_conv"
        inputs = [x, f"{name}_w"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_conv"], name, pads=pads, strides=[stride] * 2))
        if residual:
            nodes.append(helper.make_node("Add", [f"{name}_conv", residual], [out], f"{name}_add"))
        nodes.append(helper.make_node("Relu", [out], [name], f"{name}_relu"))
    nodes += extra
    last = nodes[-1].output[0]
    ends = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 12, side, side]),
        helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


BOTTLENECKS = (
    ("a", "x", 12, 24, 3, 1, ""),
    ("b", "a", 24, 12, 1, 1, ""),
    ("c", "b", 12, 12, 3, 1, ""),
    ("d", "c", 12, 24, 1, 1, "a"),
    ("e", "d", 24, 12, 1, 1, ""),
    ("f", "d", 24, 16, 1, 2, ""),
    ("g", "f", 16, 8, 3, 1, ""),
)


def in_tiles(model: onnx.ModelProto) -> set[str]:
    graph = simplify(load_graph(model, batch=1))
    found = tiled_values(graph, map_pads(graph), frozenset(), lambda node, shape: RegisterTile(3))
    return {name.removesuffix("_sum").removesuffix("_conv") for name in found}


def test_between_convolutions_without_neighbours() -> None:
    """b is read with its neighbours; a and d are added, read by 1x1 convolutions, one with a stride; g is an output."""
    assert in_tiles(network(*BOTTLENECKS)) == {"a", "c", "d"}


def test_small_maps_have_no_tiles() -> None:
    assert in_tiles(network(*BOTTLENECKS, side=8)) == set()


def test_a_sum_lies_like_what_is_added_to_it() -> None:
    """Pooling reads d from planes: then a, which it is added to, lies in planes too."""
    pool = helper.make_node("MaxPool", ["d"], ["p"], "p", kernel_shape=[3, 3])
    assert in_tiles(network(*BOTTLENECKS[:4], extra=(pool,))) == {"c"}


@pytest.mark.parametrize("isa", ["avx512", "avx2"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("primitive", ["auto", "direct", "gemm", "pack"])
def test_results(isa: str, threads: int, primitive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_ISA", isa)
    model = network(*BOTTLENECKS, batch="n")
    try:
        session = compile_onnx(model, threads=threads, primitive=primitive)
    except Exception as error:
        if "cannot run" in str(error):
            pytest.skip(str(error))
        raise
    other = onnxruntime.InferenceSession(model.SerializeToString())
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 12, SIDE, SIDE), dtype=np.float32)
        (expected,) = other.run(None, {"x": x})
        (result,) = session.run({"x": x}).values()
        np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())
