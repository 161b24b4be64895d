"""Integers without images: which ranges they get."""

import numpy as np
import pytest
import torch

from float_networks import draw, residual, run
from graph_tools import model_of, node
from secateur.errors import QuantizationError
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import write_qdq
from secateur.quantization.settings import Settings
from secateur.quantization.uncalibrated import ranges_of_network, ranges_of_norms, uncalibrated_table
from tiny_networks import Tiny


def normed():
    nodes = [
        node("Conv", "x w", "c", name="conv1", pads=[1] * 4), node("BatchNormalization", "c g b m v", "n", name="norm"),
        node("Relu", "n", "r"), node("Conv", "r w2", "d", name="conv2"),
        node("BatchNormalization", "d g b m v", "e", name="norm2"), node("Add", "e r", "s", name="sum"),
        node("Conv", "s w2", "y", name="conv3"),
    ]  # fmt: skip
    constants = {"w": draw(4, 3, 3, 3), "w2": draw(4, 4, 1, 1), "g": np.float32([1, -2, 0.5, 0]),
                 "b": np.float32([0, 1, -1, 3]), "m": draw(4), "v": draw(4) ** 2 + 1}  # fmt: skip
    return model_of(nodes, {"x": ("n", 3, 8, 8)}, constants)


def ends(table, name):
    return tuple(round(float(end), 3) for end in table.values[name].range)


def test_ranges_of_norms():
    # channel 1: 1 -+ 12; channel 0: -+ 6; channel 3: 3.
    assert ranges_of_norms(normed()) == {"n": (-11.0, 13.0), "e": (-11.0, 13.0)}


def test_ranges_follow_the_operators():
    plain = prepared(normed())
    table = uncalibrated_table(plain, points_of(plain), "bn", norms=ranges_of_norms(normed()))
    assert ends(table, "x") == pytest.approx((-6, 6), abs=0.05)
    assert ends(table, "r") == pytest.approx((0, 13), abs=0.05)
    assert ends(table, "e") == pytest.approx((-11, 13), abs=0.1)
    assert ends(table, "s") == pytest.approx((-11, 26), abs=0.15)
    assert ends(table, "y") == pytest.approx((-6, 6), abs=0.05)


def test_one_range_for_everything():
    plain = prepared(normed())
    table = uncalibrated_table(plain, points_of(plain), "global", everything=(-2.0, 4.0))
    assert ends(table, "x") == pytest.approx((-2, 4), abs=0.03)
    assert ends(table, "r") == pytest.approx((0, 4), abs=0.03)


def test_noise():
    plain = prepared(normed())
    options = {"images": (8, 3, 8, 8), "seed": 3}
    table = uncalibrated_table(plain, points_of(plain), "random", **options)
    assert table == uncalibrated_table(plain, points_of(plain), "random", **options)
    noise = np.random.default_rng(3).standard_normal((8, 3, 8, 8)).astype(np.float32)
    assert ends(table, "x") == pytest.approx((noise.min(), noise.max()), abs=0.03)


@pytest.mark.parametrize("source", ["global", "random"])
def test_a_file_comes_out(source):
    plain = prepared(residual())
    table = uncalibrated_table(plain, points_of(plain), source, images=(4, 3, 8, 8))
    assert np.isfinite(run(write_qdq(plain, table))[0]).all()


def test_norms_of_a_torch_network(tmp_path):
    torch.manual_seed(0)
    network = Tiny().eval()
    network.norm.weight.data.uniform_(0.5, 2)
    found = ranges_of_network(network, (3, 16, 16))
    gamma, beta = network.norm.weight.detach().numpy(), network.norm.bias.detach().numpy()
    assert found == {"stem": pytest.approx(((beta - 6 * gamma).min(), (beta + 6 * gamma).max()), rel=1e-6)}
    plain = prepared(read_model(export_onnx(network, tmp_path / "tiny.onnx", (3, 16, 16))))
    table = uncalibrated_table(plain, points_of(plain), "bn", norms=found)
    behind = next(each.output[0] for each in plain.graph.node if each.op_type == "Relu")
    assert ends(table, behind)[1] == pytest.approx(found["stem"][1], rel=0.01)


def test_what_is_missing_is_said():
    plain = prepared(residual())
    points = points_of(plain)
    for source, options, words in (("bn", {}, "no batch norms"), ("random", {}, "shape"), ("other", {}, "not 'other'")):
        with pytest.raises(QuantizationError, match=words):
            uncalibrated_table(plain, points, source, **options)


def test_observers_have_nothing_to_choose_from():
    plain = prepared(residual())
    points = points_of(plain)
    tables = [uncalibrated_table(plain, points, "global", Settings(name)) for name in ("mse", "entropy", "minmax")]
    assert tables[0] == tables[1] == tables[2]


def test_settings_are_kept():
    plain = prepared(residual())
    table = uncalibrated_table(plain, points_of(plain), "global", Settings("minmax", per_channel=False))
    assert table.weights["w1"].step.shape == ()
