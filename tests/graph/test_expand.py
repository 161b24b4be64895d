"""Every operator of the normal form becomes ONNX operators of every opset, computing what its definition says."""

import numpy as np
import pytest

from graph_tools import feeds_of, one_node, run_checked
from secateur.errors import ModelError
from secateur.graph.activations import apply_activation
from secateur.graph.expand import _EXPANDERS, expand
from secateur.graph.ir import Activation

PLAIN = "abs erf exp gelu gelu_tanh hard_swish mish neg reciprocal relu sigmoid silu softplus sqrt tanh"
KINDS = [
    *(Activation(kind) for kind in PLAIN.split()),
    Activation("clip", -1, 2),
    Activation("elu", 0.5),
    Activation("hard_sigmoid", 0.2, 0.4),
    Activation("leaky_relu", 0.1),
    Activation("prelu"),
]
FUNCTIONS = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
}
OPSETS = [11, 12, 13, 14, 17, 18, 20, 22]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(0.2, 1, shape).astype(np.float32)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("activation", KINDS, ids=str)
def test_activations(activation: Activation, opset: int):
    slope = {"s": numbers(3)} if activation.kind == "prelu" else {}
    graph = one_node("Activate", {"x": (2, 3, 4)}, slope, [(2, 3, 4)], opset, activation=activation)
    (found,) = run_checked(graph)
    x = feeds_of(graph)["x"].astype(np.float64)
    wanted = apply_activation(activation, x, slope["s"][:, None].astype(np.float64) if slope else None)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("activation", [None, Activation("relu"), Activation("prelu")], ids=str)
@pytest.mark.parametrize("residual", [True, False])
def test_conv_is_weights_plus_bias_plus_residual_then_activation(opset: int, activation, residual: bool):
    constants = {"w": numbers(4, 3, 1, 1), "b": numbers(4), "s": numbers(4)}
    shapes = {"x": (2, 3, 5, 5), "r": (2, 4, 5, 5)}
    names = ["x", "w", "b", "r" if residual else "", "s" if activation and activation.kind == "prelu" else ""]
    attributes = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "group": 1, "activation": activation}
    graph = one_node("Conv", shapes, constants, [(2, 4, 5, 5)], opset, inputs=names, **attributes)
    (found,) = run_checked(graph)
    feeds = {name: array.astype(np.float64) for name, array in feeds_of(graph).items()}
    sums = np.einsum("nchw,oc->nohw", feeds["x"], constants["w"][:, :, 0, 0]) + constants["b"][:, None, None]
    sums = sums + feeds["r"] if residual else sums
    np.testing.assert_allclose(found, apply_activation(activation, sums, constants["s"][:, None, None]), atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("activation", [None, Activation("tanh")], ids=str)
def test_linear(bias: bool, residual: bool, activation):
    constants = {"w": numbers(4, 3), "b": numbers(4)}
    names = ["x", "w", "b" if bias else "", "r" if residual else ""]
    shapes = {"x": (2, 5, 3), "r": (2, 5, 4)}
    graph = one_node("Linear", shapes, constants, [(2, 5, 4)], 17, inputs=names, activation=activation)
    (found,) = run_checked(graph)
    feeds = {name: array.astype(np.float64) for name, array in feeds_of(graph).items()}
    wanted = feeds["x"] @ constants["w"].T + (constants["b"] if bias else 0) + (feeds["r"] if residual else 0)
    np.testing.assert_allclose(found, apply_activation(activation, wanted), atol=1e-5)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_squeeze_excite_is_x_times_a_gate_of_its_means(opset: int, bias: bool, residual: bool):
    constants = {"w1": numbers(3, 4), "b1": numbers(3), "w2": numbers(4, 3), "b2": numbers(4)}
    names = ["x", "w1", "b1" if bias else "", "w2", "b2" if bias else "", "r" if residual else ""]
    shapes = {"x": (2, 4, 3, 5), "r": (2, 4, 3, 5)}
    kinds = {"hidden": Activation("silu"), "gate": Activation("hard_sigmoid", 0.2, 0.4), "activation": None}
    for activation in (None, Activation("relu")):
        kinds["activation"] = activation
        graph = one_node(
            "SqueezeExcite", shapes, constants, [(2, 4, 3, 5)], opset, inputs=names, layers=("a", "b"), **kinds
        )
        (found,) = run_checked(graph)
        x, r = (feeds_of(graph)[name].astype(np.float64) for name in "xr")
        rows = x.mean((2, 3))
        for w, b, key in (("w1", "b1", "hidden"), ("w2", "b2", "gate")):
            rows = apply_activation(kinds[key], rows @ constants[w].T + (constants[b] if bias else 0))
        wanted = apply_activation(activation, x * rows[:, :, None, None] + (r if residual else 0))
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("activation", [None, Activation("sigmoid")], ids=str)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_binary(op: str, activation):
    graph = one_node(op, {"x": (2, 3)}, {"c": numbers(3)}, [(2, 3)], 17, activation=activation)
    (found,) = run_checked(graph)
    wanted = FUNCTIONS[op](feeds_of(graph)["x"].astype(np.float64), graph.constants["c"])
    np.testing.assert_allclose(found, apply_activation(activation, wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", OPSETS)
def test_scale_shift_and_normalization(opset: int):
    graph = one_node("ScaleShift", {"x": (2, 6, 4, 5)}, {"a": numbers(6), "b": numbers(6)}, [(2, 6, 4, 5)], opset)
    x, a, b = feeds_of(graph)["x"], graph.constants["a"][:, None, None], graph.constants["b"][:, None, None]
    np.testing.assert_allclose(run_checked(graph)[0], x * a + b, rtol=1e-5, atol=1e-6)
    for bias in ({}, {"b": numbers(4, 5)}):
        constants = {"s": numbers(4, 5), **bias}
        graph = one_node(
            "LayerNormalization", {"x": (2, 6, 4, 5)}, constants, [(2, 6, 4, 5)], opset, axis=2, epsilon=1e-3
        )
        wide = x.astype(np.float64)
        centred = wide - wide.mean((2, 3), keepdims=True)
        wanted = centred / np.sqrt((centred**2).mean((2, 3), keepdims=True) + 1e-3) * constants["s"] + bias.get("b", 0)
        np.testing.assert_allclose(run_checked(graph)[0], wanted, atol=1e-5)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax(opset: int, axis: int):
    graph = one_node("Softmax", {"x": (2, 3, 4)}, {}, [(2, 3, 4)], opset, axis=axis)
    powers = np.exp(feeds_of(graph)["x"].astype(np.float64))
    np.testing.assert_allclose(run_checked(graph)[0], powers / powers.sum(axis, keepdims=True), rtol=1e-5)
    graph = one_node("LogSoftmax", {"x": (2, 3, 4)}, {}, [(2, 3, 4)], opset, axis=axis)
    np.testing.assert_allclose(
        run_checked(graph)[0], np.log(powers / powers.sum(axis, keepdims=True)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("opset", OPSETS)
def test_means_and_maxima(opset: int):
    x = {"x": (2, 3, 4, 6)}
    graph = one_node("ReduceMean", x, {}, [(2, 1, 4, 1)], opset, axes=(1, 3), keepdims=1)
    a = feeds_of(graph)["x"]
    np.testing.assert_allclose(run_checked(graph)[0], a.mean((1, 3), keepdims=True), rtol=1e-5, atol=1e-6)
    graph = one_node("GlobalPool", x, {}, [(2, 3, 1, 1)], opset, kind="max")
    np.testing.assert_allclose(run_checked(graph)[0], a.max((2, 3), keepdims=True), rtol=1e-5, atol=1e-6)


def test_pools():
    common = {"kernel": (2, 2), "strides": (2, 2), "dilations": (1, 1)}
    graph = one_node("Pool", {"x": (1, 1, 3, 4)}, {}, [(1, 1, 2, 2)], 17, kind="average", pads=(0, 0, 1, 0),
                count_include_pad=False, **common)  # fmt: skip
    x = feeds_of(graph)["x"].astype(np.float64)
    wanted = [[x[0, 0, r : r + 2, c : c + 2].mean() for c in (0, 2)] for r in (0, 2)]
    np.testing.assert_allclose(run_checked(graph)[0][0, 0], wanted, rtol=1e-5)
    counted = one_node("Pool", {"x": (1, 1, 3, 4)}, {}, [(1, 1, 2, 2)], 17, kind="average", pads=(0, 0, 1, 0),
                  count_include_pad=True, **common)  # fmt: skip
    np.testing.assert_allclose(run_checked(counted)[0][0, 0, 1], np.array(wanted[1]) / 2, rtol=1e-5)


def test_every_operator_is_listed_in_the_normal_form():
    import secateur.graph.passes as passes

    words = set((passes.__doc__ or "").split())
    assert set(_EXPANDERS) <= words


def test_an_unknown_operator_is_a_sentence():
    with pytest.raises(ModelError, match="operator 'Mystery'"):
        expand(one_node("Mystery", {"x": (2,)}, {}, [(2,)], 17))
    with pytest.raises(ModelError, match="no activation 'sine'"):
        expand(one_node("Activate", {"x": (2,)}, {}, [(2,)], 17, activation=Activation("sine")))


def test_a_graph_without_fused_nodes_is_returned_as_it_is():
    graph = one_node("Reshape", {"x": (2,)}, {}, [(2,)], 17, shape=(2,))
    assert expand(expand(graph)) is not graph
    assert expand(expanded := expand(graph)) is expanded
