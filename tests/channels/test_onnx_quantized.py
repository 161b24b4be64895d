"""ONNX files of integers: no plan is made that removes nothing and calls itself done."""

import numpy as np
import pytest

from channels.onnx_topologies import HEAD, PADDED, conv, fc, model
from secateur.channels import plan_channels_onnx, thin_plan_onnx
from secateur.channels.onnx_network import read_network
from secateur.channels.onnx_quantized import quantized_layers
from secateur.channels.onnx_trace import groups_of_onnx
from secateur.errors import SparsityError

STEP, ZERO = np.array(0.05, np.float32), np.array(0, np.int8)


def rounded(value: str, result: str) -> str:
    return f"{result}8 = QuantizeLinear({value}, step, zero) {result} = DequantizeLinear({result}8, step, zero)"


def integers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-127, 127, shape).astype(np.int8)


def all_quantized():
    nodes = f"""
        {rounded("x", "i")} v = DequantizeLinear<axis = 0>(v8, scales, zeros) a = Conv{PADDED}(i, v) r = Relu(a)
        {rounded("r", "s")} w = DequantizeLinear(w8, step, zero) y = Conv(s, w)
    """
    weights = {
        "step": STEP, "zero": ZERO, "scales": np.full(8, 0.01, np.float32), "zeros": np.zeros(8, np.int8),
        "v8": integers(8, 3, 3, 3), "w8": integers(5, 8, 1, 1),
    }  # fmt: skip
    return model(nodes, weights, y="N,5,8,8")


def half_quantized():
    nodes = f"""
        w = DequantizeLinear(w8, step, zero) a = Conv{PADDED}(x, w) r = Relu(a)
        b = Conv{PADDED}(r, b.weight, b.bias) h = Relu(b) {HEAD}
    """
    return model(nodes, {"step": STEP, "zero": ZERO, "w8": integers(8, 3, 3, 3), **conv("b", 6, 8), **fc(6)})


@pytest.mark.parametrize("base", ["channels", "macs", "parameters"])
def test_quantized_file_is_refused(base):
    with pytest.raises(
        SparsityError, match=r"are quantized: .* Remove channels from the file with weights of floating"
    ):
        plan_channels_onnx(all_quantized(), 0.4, base=base)


def test_thinning_does_not_speak_of_weights_that_it_has_not_seen():
    with pytest.raises(SparsityError, match="are quantized"):
        thin_plan_onnx(all_quantized())


def test_layers_of_floating_point_may_lose_a_share_of_their_own():
    file = half_quantized()
    assert plan_channels_onnx(file, 0.5, base="channels").removed == 3
    assert thin_plan_onnx(file).removed == 0
    with pytest.raises(SparsityError, match=r"weights of Conv '.*' are quantized"):
        plan_channels_onnx(file, 0.1, base="macs")  # whose MACs would it be a share of?


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        (f"{rounded('b.weight', 'w')} y = Conv(a, w)", {"b.weight": (4, 8, 1, 1)}),
        ("c = Cast<to = 1>(w8) w = Mul(c, step) y = Conv(a, w)", {"w8": integers(4, 8, 1, 1)}),
    ],
)
def test_ways_to_store_integers(nodes, weights):
    given = {"step": STEP, "zero": ZERO, **conv("a", 8, 3, 1), **weights}
    file = model(f"a = Conv(x, a.weight, a.bias) {nodes}", given, y="N,4,8,8")
    assert [node.outputs for node in quantized_layers(read_network(file))] == [("y",)]
    assert "whose weight is quantized" in str(groups_of_onnx(file)["a"].frozen)


def test_product_of_rounded_activations_has_no_weight():
    nodes = f"a = Conv(x, a.weight, a.bias) {rounded('a', 'b')} y = MatMul(b, b)"
    file = model(nodes, {"step": STEP, "zero": ZERO, **conv("a", 4, 3, 1)}, y="N,4,8,8")
    assert quantized_layers(read_network(file)) == ()


def test_file_that_can_lose_nothing_says_why():
    file = model("y = Conv(x, a.weight, a.bias)", conv("a", 4, 3, 1), y="N,4,8,8")
    with pytest.raises(SparsityError, match=r"no channel may go \(into a: input of the network; a: output of the net"):
        plan_channels_onnx(file, 0.4, base="channels")
