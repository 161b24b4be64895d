"""The collapse guard: exactly the broken layer goes back to float, with the reason, and nothing where nothing broke."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_networks import INT8, SIZE, images, network, table_of, values_of, weight_of
from secateur.quantization.answers import logits_of, top1_agreement
from secateur.quantization.calibrate import calibrate
from secateur.quantization.guard import guard, without
from secateur.quantization.noise import CLEAN, measure_noise
from secateur.quantization.numbers import Numbers, Scale, rounded
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import settled, write_qdq
from secateur.quantization.seen import Statistics
from secateur.quantization.suspects import find_suspects
from secateur.quantization.table import ScaleTable

IMAGES = images(96, batch=32)


def calibrated(model, per_channel=True):
    plain = prepared(model)
    return plain, settled(plain, calibrate(plain, IMAGES, points_of(plain), per_channel=per_channel))


def with_weight(model, name, array):
    changed = type(model)()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return changed


def balanced(model):
    """The same network with all classes as likely: its answers depend on the images."""
    return with_weight(model, "fc.bias", weight_of(model, "fc.bias") - logits_of(model, IMAGES).mean(0))


def broken(model, name="d.weight", channel=3, factor=3000.0):
    """One filter so large that, with one step for the tensor, the others are rounded to nothing.

    A Clip follows, so that the network goes on with ordinary numbers.
    """
    weight = weight_of(model, name).copy()
    weight[channel] *= factor
    return with_weight(model, name, weight)


def test_noise_is_that_of_the_layer_alone_and_of_all_before_it():
    model = network(1)
    table = table_of(model, IMAGES, INT8)
    noise = measure_noise(model, table, IMAGES)
    assert [row.node for row in noise.layers] == ["a", "d", "b", "add", "mean", "fc"]
    found = values_of(model, IMAGES, ("d.out", "b.pre"))
    weight = weight_of(model, "b.weight")[:, :, 0, 0]
    own = np.einsum(
        "oi,nihw->nohw",
        rounded(weight_of(model, "b.weight"), table.weights["b.weight"])[:, :, 0, 0],
        rounded(found["d.out"], table.values["d.out"]),
    )
    plain = np.einsum("oi,nihw->nohw", weight, found["d.out"])
    shares = np.square(own - plain).sum((0, 2, 3)) / np.square(found["b.pre"]).sum((0, 2, 3))
    wanted = -10 * np.log10(shares.mean())
    assert noise["b"].own == pytest.approx(wanted, abs=0.02)
    assert noise["b"].total < noise["b"].own
    assert noise["b"].beyond == 0.0
    assert "total dB" in str(noise)


def test_numbers_beyond_the_range_are_counted():
    model = network(1)
    table = table_of(model, IMAGES, INT8)
    value = values_of(model, IMAGES, ("a.out",))["a.out"]
    scale = Scale(np.float32(0.5 / 255), np.int32(0), None, Numbers(8))
    noise = measure_noise(model, ScaleTable(dict(table.values) | {"a.out": scale}, table.weights, {}), IMAGES)
    assert noise["d"].beyond == pytest.approx(float((value > 0.5 + 0.25 / 255).mean()), rel=1e-3)
    assert noise.worst()[0].node in ("d", "add")


def test_without_scales_there_is_no_noise():
    assert not measure_noise(network(), ScaleTable(), IMAGES).layers
    model = network()
    table = table_of(model, IMAGES, INT8, None)
    assert measure_noise(model, ScaleTable({}, {"a.weight": table.weights["a.weight"]}, {}), IMAGES)["a"].own < CLEAN


def test_nothing_stays_float_where_nothing_broke():
    model, table = calibrated(network(1))
    found = guard(model, table, IMAGES, bound=0.1)
    assert found.held and not found.returned
    assert found.table == table
    assert found.model.SerializeToString() == write_qdq(model, table).SerializeToString()
    assert "no layer stays float" in str(found)


@pytest.mark.parametrize("seed", [4, 5])
def test_exactly_the_broken_layer_goes_back_to_float(seed):
    model, table = calibrated(balanced(broken(network(seed))), per_channel=False)
    wanted = logits_of(model, IMAGES)
    before = top1_agreement(wanted, logits_of(write_qdq(model, table), IMAGES))
    assert before < 0.9
    asked: list[int] = []

    def latency(file):
        asked.append(1)
        return float(sum(node.op_type == "Conv" and node.input[1] == "d.weight" for node in file.graph.node))

    found = guard(model, table, IMAGES, bound=0.05, latency=latency, suspects=find_suspects(model, per_channel=False))
    assert [row.node for row in found.returned] == ["d"]
    assert found.held
    assert found.score[1] == before
    assert found.score[2] == top1_agreement(wanted, logits_of(found.model, IMAGES)) >= 0.95
    assert found.returned[0].milliseconds == 1.0
    assert "one channel" in found.returned[0].reason
    assert "dB" in str(found) and "d" in found.table.floats
    assert "d.weight" not in found.table.weights


def test_onnx_runtime_leaves_a_layer_between_integers_float():
    """It rounds float weights between DequantizeLinear and QuantizeLinear by itself, if it can."""
    model, table = calibrated(balanced(broken(network(5))), per_channel=False)
    written = write_qdq(model, without(model, table, ["d"]))
    fast, as_written = (logits_of(written, IMAGES, optimized=optimized) for optimized in (True, False))
    np.testing.assert_allclose(fast, as_written, atol=0.05 * np.abs(as_written).max())
    assert top1_agreement(logits_of(model, IMAGES), fast) > 0.95


def test_a_bound_that_cannot_hold_is_said():
    model, table = calibrated(network(1))
    scores = iter(range(1000, 0, -1))
    found = guard(model, table, IMAGES, bound=0.0, score=lambda file: float(next(scores)))
    assert not found.held
    assert "does not hold" in str(found)


def test_returning_everything_leaves_a_float_file():
    model, table = calibrated(network(1))
    names = [node.name for node in model.graph.node]
    bare = without(model, table, names)
    assert not bare.values and not bare.weights
    np.testing.assert_array_equal(logits_of(write_qdq(model, bare), IMAGES), logits_of(model, IMAGES))


def test_dead_channels_are_found_and_break_nothing():
    model = network(1)
    weight = weight_of(model, "a.weight").copy()
    weight[2] *= 1e-7
    model = with_weight(model, "a.weight", weight)
    (suspect,) = find_suspects(model).of("dead channel")
    assert suspect.where == "a" and "1 of 8 filters" in suspect.detail
    plain, table = calibrated(model)
    assert guard(plain, table, IMAGES, bound=0.1).held


def gated():
    """A norm with a dead channel, squeeze-excite, hard-swish and SiLU."""
    random = np.random.default_rng(0)
    ones = np.ones(8, np.float32)
    tensors = {
        "w": random.standard_normal((8, 3, 1, 1)), "g": np.where(np.arange(8) == 5, 1e-9, ones), "beta": 0 * ones,
        "mean": 0 * ones, "var": ones, "se": random.standard_normal((8, 8, 1, 1)),
        "last": random.standard_normal((4, 8, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "g", "beta", "mean", "var"], ["n"], "norm"),
        helper.make_node("HardSigmoid", ["n"], ["hs"], "hs", alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["n", "hs"], ["h"], "hard_swish"),
        helper.make_node("GlobalAveragePool", ["h"], ["p"], "pool"),
        helper.make_node("Conv", ["p", "se"], ["q"], "squeeze"),
        helper.make_node("Sigmoid", ["q"], ["gate"], "sigmoid"),
        helper.make_node("Mul", ["h", "gate"], ["e"], "excite"),
        helper.make_node("Sigmoid", ["e"], ["es"], "es"),
        helper.make_node("Mul", ["e", "es"], ["f"], "silu"),
        helper.make_node("Conv", ["f", "last"], ["maps"], "last"),
        helper.make_node("GlobalAveragePool", ["maps"], ["means"], "means"),
        helper.make_node("Flatten", ["means"], ["y"], "flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_suspects_before_and_after_norms_are_folded():
    model = gated()
    found = find_suspects(model)
    assert [(s.where, s.kind) for s in found.found] == [
        ("norm", "dead norm"),
        ("hard_swish", "curve"),
        ("excite", "gate"),
        ("silu", "curve"),
    ]
    (dead,) = find_suspects(prepared(model)).of("dead channel")
    assert dead.where == "conv"
    assert "squeeze-excite" in str(found)
    plain, table = calibrated(model)
    checked = guard(plain, table, IMAGES, bound=0.2)
    assert checked.held


def test_outliers_and_large_filters():
    facts = {"v": Statistics(0.0, 100.0, 0.0, 9.0, 1.0, 1.0, 1.0), "w": Statistics(-3, 3, -2, 2, 0, 1, 1)}
    (suspect,) = find_suspects(network(), statistics=facts).found
    assert (suspect.where, suspect.kind) == ("v", "outliers")
    model = broken(network(1))
    assert not find_suspects(model).found
    (suspect,) = find_suspects(model, per_channel=False).found
    assert (suspect.where, suspect.kind) == ("d", "one channel") and "filter 3" in suspect.detail
    assert str(find_suspects(network())) == "nothing suspicious"
