"""A batch in parts gives what the batch as a whole gives, and only nodes that compute images one by one are divided."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from secateur.engine.batches import in_parts
from secateur.engine.session import compile_onnx
from secateur.engine.target import host_target
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify

FLOAT = onnx.TensorProto.FLOAT
TARGET = host_target()
SMALL_CACHE = replace(TARGET, l2=32 << 10)


def network(*nodes: onnx.NodeProto, side: int = 24, constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((8, 3, 3, 3)) / 5,
        "w2": rng.standard_normal((8, 8, 3, 3)) / 9,
        "classes": rng.standard_normal((8, 10)),
    }
    initializers = [
        numpy_helper.from_array(np.asarray(array, array.dtype if array.dtype == np.int64 else np.float32), name)
        for name, array in (weights | (constants or {})).items()
    ]
    ends = [helper.make_tensor_value_info("x", FLOAT, ["n", 3, side, side])]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)]
    graph = helper.make_graph(list(nodes), "g", ends, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


FIRST = (
    helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1] * 4),
    helper.make_node("Relu", ["a"], ["b"], "relu"),
    helper.make_node("Conv", ["b", "w2"], ["c"], "second", pads=[1] * 4),
    helper.make_node("Add", ["c", "b"], ["d"], "sum"),
)
LAST = (
    helper.make_node("GlobalAveragePool", ["d"], ["p"], "pool"),
    helper.make_node("Flatten", ["p"], ["f"], "flat"),
    helper.make_node("MatMul", ["f", "classes"], ["y"], "classifier"),
)


def pieces(model: onnx.ModelProto, batch: int, target=SMALL_CACHE):
    return in_parts(simplify(load_graph(model, batch=batch)), target)


def test_the_classifier_runs_for_the_whole_batch() -> None:
    """24 x 24 x 8 floats are 18 KiB: each node touches about 26 KiB per image."""
    first, rest = pieces(network(*FIRST, *LAST), 6)
    assert first.repeats == 6 and rest.repeats == 1
    assert {node.op for node in first.graph.nodes} == {"Conv", "GlobalPool"}
    assert first.graph.shape("x") == (1, 3, 24, 24)
    assert [node.op for node in rest.graph.nodes if node.op != "Reshape"] == ["Linear"]
    assert rest.graph.shape("y") == (6, 10)


@pytest.mark.parametrize(("cache", "together"), [(32 << 10, 1), (56 << 10, 2), (100 << 10, 3), (1 << 20, 6)])
def test_as_many_images_together_as_the_cache_holds(cache: int, together: int) -> None:
    first, *_ = pieces(network(*FIRST, *LAST), 6, replace(TARGET, l2=cache))
    assert first.repeats == 6 // together


def test_one_image_stays_whole() -> None:
    assert len(pieces(network(*FIRST, *LAST), 1)) == 1


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Concat", ["c", "b"], ["d"], "joined images", axis=0),
        helper.make_node("ReduceMean", ["c"], ["d"], "mean image", axes=[0], keepdims=1),
        helper.make_node("Add", ["c", "each"], ["d"], "each image its own"),
        helper.make_node("Slice", ["c", "from", "to"], ["d"], "some images"),
        helper.make_node("Gather", ["c", "to"], ["d"], "one image"),
    ],
    ids=lambda node: node.name,
)
def test_what_joins_images_is_not_divided(node: onnx.NodeProto) -> None:
    constants = {
        "each": np.random.default_rng(1).standard_normal((4, 8, 24, 24)),
        "from": np.array([1], np.int64),
        "to": np.array([3], np.int64),
    }
    model = network(*FIRST[:3], node, constants=constants)
    divided = pieces(model, 4)
    assert all(node.name not in {own.name for own in piece.graph.nodes} for piece in divided if piece.repeats > 1)
    agrees(model, 4)


def test_selections_of_channels_are_divided() -> None:
    nodes = (*FIRST[:3], helper.make_node("Gather", ["c", "order"], ["d"], "select", axis=1))
    nodes += (helper.make_node("Conv", ["d", "w2"], ["e"], "third", pads=[1] * 4),)
    model = network(*nodes, constants={"order": np.arange(8)[::-1]})
    (piece,) = pieces(model, 4)
    assert piece.repeats == 4
    assert "Gather" in {node.op for node in piece.graph.nodes}
    agrees(model, 4)


def test_results_are_those_of_single_images() -> None:
    model = network(*FIRST, *LAST, side=100)  # 320 KB per value
    agrees(model, 4)
    session = compile_onnx(model, threads=1)
    images = np.random.default_rng(0).standard_normal((4, 3, 100, 100), dtype=np.float32)
    together = session.run(images)["y"]
    np.testing.assert_allclose(together, np.concatenate([session.run(images[i : i + 1])["y"] for i in range(4)]), 1e-5)


def test_times_and_work_count_all_parts() -> None:
    model = network(*FIRST, *LAST, side=100)
    session = compile_onnx(model, threads=1, batch=4)
    profile = session.profile(rounds=3)
    second = next(row for row in profile.layers if row.facts.layer == "second")
    assert second.facts.output == (4, 8, 100, 100)
    assert second.facts.macs == 4 * 8 * 100 * 100 * 8 * 9
    single = compile_onnx(model, threads=1, batch=1).profile(rounds=3)
    assert 2 < profile.total / single.total < 8


def agrees(model: onnx.ModelProto, batch: int) -> None:
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    images = np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": images})
    (found,) = compile_onnx(model, threads=2).run(images).values()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
