"""All passes together: whole networks compute the same before and after, and little is left of them."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_tools import assert_same, feeds_of, graph_of, node, numbers, only, ops, run_model
from secateur.graph.load import load_graph
from secateur.graph.passes import PASSES, simplify
from secateur.graph.to_onnx import to_onnx

LEFT = {
    "mobilenet_v1_025_imagenet": {"Conv": 27},
    "mobilenet_v1_075_imagenet": {"Conv": 27},
    "mobilenet_v2_100_imagenet": {"Conv": 52, "Slice": 1},
    "resnet20_cifar10": {"Conv": 19, "Slice": 2, "Pad": 2},
    "resnet20_distiller_channel_pruned_cifar10": {"Conv": 21},
    "resnet20_distiller_dense_cifar10": {"Conv": 21},
    "resnet20b_cifar10": {"Conv": 21},
    "resnet56_cifar10": {"Conv": 55, "Slice": 2, "Pad": 2},
    "shufflenetv2_x0_5_cifar10": {"Conv": 56, "Concat": 16, "*Gather": 16},
    "squeezenet1_0_deepcompressed_imagenet": {"Conv": 26, "Pool": 3, "Concat": 8, "Linear": 0},
    "squeezenet1_1_imagenet": {"Conv": 26, "Pool": 3, "Concat": 8, "Linear": 0},
}


@pytest.mark.parametrize("name", LEFT)
def test_networks_of_strangers(name: str, shared_data):
    model = onnx.load(shared_data / "onnx" / f"{name}.onnx")
    graph = simplify(load_graph(model, batch=2))
    assert_same(model, graph)
    found = ops(graph)
    assert {op: found.count(op) for op in set(found)} | {"Linear": found.count("Linear")} == {
        "GlobalPool": 1, "Reshape": 1, "Linear": 1, **LEFT[name],
    }  # fmt: skip


@pytest.mark.slow
def test_a_torch_network(tmp_path):
    torch = pytest.importorskip("torch")
    import secateur

    torch.manual_seed(0)
    secateur.export_onnx(secateur.model("mobilenet_v3_small", weights=None), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    for batch in (1, 3):
        graph = simplify(load_graph(model, batch=batch))
        assert (ops(graph).count("Conv"), ops(graph).count("SqueezeExcite")) == (34, 9)
        assert set(ops(graph)) == {"Conv", "GlobalPool", "SqueezeExcite", "Reshape", "Linear"}
        assert_same(model, graph)


def test_a_residual_block_becomes_its_convolutions():
    nodes = [
        node("Conv", "x w1", "a", pads=[1] * 4), node("BatchNormalization", "a g b b v", "c"), node("Relu", "c", "d"),
        node("Conv", "d w2", "e", pads=[1] * 4), node("BatchNormalization", "e g b b v", "f"),
        node("Add", "f x", "h"), node("Relu", "h", "y"),
    ]  # fmt: skip
    constants = {"w1": numbers(4, 4, 3, 3), "w2": numbers(4, 4, 3, 3, seed=1), "g": numbers(4), "b": numbers(4),
                 "v": numbers(4, low=0.2)}  # fmt: skip
    graph = graph_of(nodes, {"x": (1, 4, 8, 8)}, constants)
    after = simplify(graph)
    assert ops(after) == ["Conv", "Conv"]
    assert [str(each.attributes["activation"]) for each in after.nodes] == ["relu", "relu"]
    assert after.nodes[1].input(3) == "x" and set(after.types) >= {"x", "d", "y"}
    assert {"a", "c", "e", "f", "h"}.isdisjoint(after.types)
    assert_same(graph, after)


def test_squeeze_and_excitation():
    nodes = [
        node("GlobalAveragePool", "x", "p"), node("Conv", "p w b", "q"), node("Relu", "q", "r"),
        node("Conv", "r v", "s"), node("HardSigmoid", "s", "g", alpha=1 / 6), node("Mul", "g x", "y"),
    ]  # fmt: skip
    constants = {"w": numbers(2, 8, 1, 1), "b": numbers(2), "v": numbers(8, 2, 1, 1)}
    graph = graph_of(nodes, {"x": (2, 8, 5, 5)}, constants)
    after = simplify(graph)
    assert ops(after) == ["SqueezeExcite"]
    assert only(after, "SqueezeExcite").inputs[::2] == ("x", "b") and set(after.types) >= {"x", "y"}
    assert {"p", "q", "r", "s", "g"}.isdisjoint(after.types)
    assert_same(graph, after)


def test_simplify_is_idempotent_and_passes_return_what_they_do_not_change():
    nodes = [node("Conv", "x w", "h"), node("Relu", "h", "r"), node("Flatten", "r", "f"), node("MatMul", "f m", "y")]
    graph = simplify(graph_of(nodes, {"x": (1, 3, 5, 5)}, {"w": numbers(2, 3, 3, 3), "m": numbers(18, 4)}))
    assert simplify(graph) is graph
    assert all(run(graph) is graph for run in PASSES)


ACTIVATIONS = ["Relu", "HardSwish", "Sigmoid", "Tanh", "Elu", "Identity", "Neg"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_small_network(data: st.DataObject):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {}
    values = ["x"]
    channels = {"x": 4}

    def constant(array: np.ndarray) -> str:
        name = f"c{len(constants)}"
        constants[name] = (array * (rng.random(array.shape) < 0.7)).astype(np.float32)
        return name

    for index in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(["conv", "depthwise", "norm", "activation", "add", "scale", "concat", "pool"]))
        source = data.draw(st.sampled_from(values))
        c, out = channels[source], f"v{index}"
        channels[out] = c
        if kind == "conv":
            channels[out] = int(rng.integers(1, 6))
            k = int(rng.choice([1, 3]))
            weight = constant(rng.standard_normal((channels[out], c, k, k)))
            nodes.append(node("Conv", f"{source} {weight}", out, pads=[k // 2] * 4))
        elif kind == "depthwise":
            weight, bias = constant(rng.standard_normal((c, 1, 3, 3))), constant(rng.standard_normal(c))
            nodes.append(node("Conv", f"{source} {weight} {bias}", out, pads=[1] * 4, group=c))
        elif kind == "norm":
            g, b, m = (constant(rng.standard_normal(c)) for _ in range(3))
            constants[f"s{index}"] = rng.uniform(0.5, 2, c).astype(np.float32)
            nodes.append(node("BatchNormalization", f"{source} {g} {b} {m} s{index}", out))
        elif kind == "activation":
            nodes.append(node(data.draw(st.sampled_from(ACTIVATIONS)), source, out))
        elif kind == "add":
            other = data.draw(st.sampled_from([value for value in values if channels[value] == c]))
            nodes.append(node(data.draw(st.sampled_from(["Add", "Mul", "Sub"])), f"{source} {other}", out))
        elif kind == "scale":
            shape = data.draw(st.sampled_from([(c, 1, 1), (1,), (6,)]))
            op = data.draw(st.sampled_from(["Add", "Mul", "Sub"]))
            pair = [source, constant(rng.standard_normal(shape))]
            nodes.append(node(op, " ".join(pair if data.draw(st.booleans()) else pair[::-1]), out))
        elif kind == "concat":
            other = data.draw(st.sampled_from(values))
            channels[out] = c + channels[other]
            nodes.append(node("Concat", f"{source} {other}", out, axis=1))
        else:
            op = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
            nodes.append(node(op, source, out, kernel_shape=[3, 3], pads=[1] * 4))
        values.append(out)
    outputs = {values[-1], data.draw(st.sampled_from(values[1:]))}
    graph = graph_of(nodes, {"x": (2, 4, 6, 6)}, constants, " ".join(sorted(outputs)))
    wanted = run_model(to_onnx(graph), feeds_of(graph))
    if all(np.isfinite(array).all() and np.abs(array).max() < 1e6 for array in wanted):
        after = simplify(graph)
        assert simplify(after) is after
        assert_same(graph, after, 1e-4)
