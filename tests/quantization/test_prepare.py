"""A prepared model is the same function, with nothing between layers that integers need not see."""

import numpy as np
import onnx
import pytest

from float_networks import draw, kinds, residual, run, stored
from graph_tools import model_of, node
from secateur.errors import ModelError, QuantizationError
from secateur.graph.old_opset import opset_of
from secateur.quantization.prepare import prepared, with_opset

X = draw(2, 3, 6, 6, seed=9, scale=1.0)
WEIGHT = {"w": draw(4, 3, 3, 3), "b": draw(4, seed=1)}
NUMBERS = {"gamma": draw(4, seed=2) + 1, "beta": draw(4, seed=3), "mean": draw(4, seed=4), "var": draw(4, seed=5) ** 2}


def same(model, x=X):
    """The prepared model, which must be valid and compute the same."""
    done = prepared(model)
    onnx.checker.check_model(done, full_check=True)
    for expected, found in zip(run(model, x), run(done, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return done


def conv(*tail, constants=(), inputs="x w b", outputs="y", **attributes):
    nodes = [node("Conv", inputs, "c", name="conv", **attributes), *tail]
    return model_of(nodes, {"x": ("n", 3, 6, 6)}, {**WEIGHT, **dict(constants)}, outputs)


def test_rule_1_old_opsets_become_newer():
    model = model_of([node("Conv", "x w b", "y")], {"x": ("n", 3, 6, 6)}, WEIGHT, opset=11)
    assert opset_of(same(model)) == 13


def test_rule_1_every_node_has_a_name_of_its_own():
    nodes = [node("Relu", "x", "a", name="same"), node("Relu", "a", "b2", name="same"), node("Relu", "b2", "y")]
    done = prepared(model_of(nodes, {"x": ("n", 3, 6, 6)}))
    assert [each.name for each in done.graph.node] == ["same", "same_2", "y"]


def test_rule_2_what_depends_on_no_input_is_computed():
    nodes = [
        node("ConstantOfShape", "four", "zeros"),
        node("Cast", "zeros", "whole", to=onnx.TensorProto.INT64),
        node("Concat", "whole six", "pads", axis=0),
        node("Pad", "x pads", "y"),
    ]
    constants = {"four": np.array([4]), "six": np.array([0, 0, 1, 1])}
    done = same(model_of(nodes, {"x": ("n", 3, 6, 6)}, constants))
    assert kinds(done) == {"Pad": 1}
    assert stored(done)["pads"].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_rule_2_scalars_stay_scalars():
    nodes = [node("Neg", "one", "minus"), node("Mul", "x minus", "y")]
    done = same(model_of(nodes, {"x": ("n", 3, 6, 6)}, {"one": np.float32(1)}))
    assert stored(done)["minus"].shape == ()


def test_rule_2_an_output_that_is_constant_stays_an_output():
    nodes = [node("Neg", "one", "k"), node("Relu", "x", "y")]
    done = same(model_of(nodes, {"x": ("n", 3, 6, 6)}, {"one": np.float32([1])}, "y k"))
    assert [value.name for value in done.graph.output] == ["y", "k"]


def test_rule_2_known_sides_are_constants():
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s one", "channels", axis=0), node("Gather", "s zero", "n2", axis=0),
        node("Unsqueeze", "channels axes", "c1"), node("Unsqueeze", "n2 axes", "n1"),
        node("Concat", "n1 c1 rest", "shape", axis=0), node("Reshape", "x shape", "y"),
    ]  # fmt: skip
    constants = {"one": np.array(1), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([36])}
    done = same(model_of(nodes, {"x": ("n", 3, 6, 6)}, constants))
    assert kinds(done) == {"Shape": 1, "Gather": 1, "Unsqueeze": 1, "Concat": 1, "Reshape": 1}


def test_rule_3_padding_with_zeros_is_the_convolutions():
    model = model_of(
        [node("Pad", "x pads", "p"), node("Conv", "p w b", "y", pads=[0, 1, 0, 0], strides=[2, 2])],
        {"x": ("n", 3, 6, 6)},
        {**WEIGHT, "pads": np.array([0, 0, 0, 1, 0, 0, 1, 2])},
    )
    done = same(model)
    assert kinds(done) == {"Conv": 1}
    assert list(done.graph.node[0].attribute[0].ints) in ([0, 2, 1, 2], [2, 2])


@pytest.mark.parametrize(
    ("pads", "options", "filling"),
    [
        ([0, 1, 0, 0, 0, 0, 0, 0], {}, None),
        ([0, 0, 1, 1, 0, 0, 1, 1], {"mode": "reflect"}, None),
        ([0, 0, 1, 1, 0, 0, 1, 1], {}, 0.5),
        ([0, 0, -1, 0, 0, 0, 0, 0], {}, None),
    ],
)
def test_rule_3_other_padding_stays(pads, options, filling):
    channels = 3 + pads[1] + pads[5]
    constants = {"w": draw(4, channels, 3, 3), "b": WEIGHT["b"], "pads": np.array(pads)}
    if filling is not None:
        constants["filling"] = np.float32(filling)
    names = "x pads" if filling is None else "x pads filling"
    model = model_of([node("Pad", names, "p", **options), node("Conv", "p w b", "y")], {"x": ("n", 3, 6, 6)}, constants)
    assert kinds(same(model)) == {"Pad": 1, "Conv": 1}


@pytest.mark.parametrize("bias", [True, False])
def test_rule_4_batch_norm_is_folded(bias):
    tail = node("BatchNormalization", "c gamma beta mean var", "y")
    done = same(conv(tail, constants=NUMBERS, inputs="x w b" if bias else "x w"))
    assert kinds(done) == {"Conv": 1}
    assert done.graph.node[0].output == ["y"]
    assert done.graph.node[0].input[1] == "w"


def test_rule_4_zero_weights_stay_zero():
    weight = WEIGHT["w"].copy()
    weight[:, 1] = 0
    tail = node("BatchNormalization", "c gamma beta mean var", "y")
    done = same(conv(tail, constants={**NUMBERS, "gamma": -NUMBERS["gamma"], "w": weight}))
    folded = stored(done)["w"]
    assert not folded[:, 1].any() and not np.signbit(folded[:, 1]).any()


@pytest.mark.parametrize(
    ("kind", "names", "shape"),
    [
        ("Mul", "c k", (4, 1, 1)),
        ("Mul", "k c", (1, 4, 1, 1)),
        ("Mul", "c k", ()),
        ("Add", "c k", (1, 4, 1, 1)),
        ("Sub", "c k", (4, 1, 1)),
        ("Sub", "k c", (4, 1, 1)),
        ("Div", "c k", (1,)),
    ],
)
def test_rule_4_factors_and_terms_are_folded(kind, names, shape):
    done = same(conv(node(kind, names, "y"), constants={"k": draw(*shape) + np.float32(1.5)}))
    assert kinds(done) == {"Conv": 1}


@pytest.mark.parametrize(
    ("kind", "names", "shape"), [("Mul", "c k", (1, 4)), ("Mul", "c k", (4, 4, 4)), ("Div", "k c", (4, 1, 1))]
)
def test_rule_4_other_arithmetic_stays(kind, names, shape):
    constants = {"k": draw(*shape) + np.float32(1.5), "w": draw(4, 3, 3, 3)}
    assert kinds(same(conv(node(kind, names, "y"), constants=constants))).total() == 2


def test_rule_4_second_reader_blocks_folding():
    tail = (node("Mul", "c k", "m"), node("Add", "c m", "y"))
    assert kinds(same(conv(*tail, constants={"k": np.float32(2)})))["Mul"] == 1


def test_rule_4_an_output_blocks_folding():
    assert kinds(same(conv(node("Mul", "c k", "y"), constants={"k": np.float32(2)}, outputs="y c")))["Mul"] == 1


def test_rule_4_a_weight_that_others_read_is_left_to_them():
    nodes = [
        node("Conv", "x w", "c"), node("Mul", "c k", "m"), node("Conv", "x w", "d"), node("Add", "m d", "y"),
    ]  # fmt: skip
    done = same(model_of(nodes, {"x": ("n", 3, 6, 6)}, {"w": WEIGHT["w"], "k": np.float32(3)}))
    assert kinds(done) == {"Conv": 2, "Add": 1}


def test_rule_4_numbers_that_overflow_stay_apart():
    done = prepared(conv(node("Mul", "c k", "y"), constants={"k": np.float32(3e38), "w": WEIGHT["w"] * 100}))
    assert kinds(done) == {"Conv": 1, "Mul": 1}


@pytest.mark.parametrize("groups", [1, 2])
def test_rule_4_transposed_convolutions(groups):
    constants = {"w": draw(4, 6 // groups, 3, 3), "k": draw(6, 1, 1) + 2, "gamma": draw(6), "beta": draw(6, seed=1)}
    constants |= {"mean": draw(6, seed=2), "var": draw(6, seed=3) ** 2}
    nodes = [
        node("ConvTranspose", "x w", "c", group=groups),
        node("Mul", "c k", "m"),
        node("BatchNormalization", "m gamma beta mean var", "y"),
    ]
    done = same(model_of(nodes, {"x": ("n", 4, 6, 6)}, constants), draw(2, 4, 6, 6))
    assert kinds(done) == {"ConvTranspose": 1}


@pytest.mark.parametrize("transposed", [0, 1])
def test_rule_5_products_are_plain_gemms(transposed):
    weight = draw(5, 7)
    constants = {"w": weight.T.copy() if transposed else weight, "b": draw(1, 7), "k": draw(7)}
    nodes = [node("Gemm", "x w b", "g", alpha=0.5, beta=3.0, transB=transposed), node("Add", "g k", "y")]
    done = same(model_of(nodes, {"x": ("n", 5)}, constants), draw(3, 5))
    assert kinds(done) == {"Gemm": 1}
    assert {each.name for each in done.graph.node[0].attribute} <= {"transB"}


@pytest.mark.parametrize("tail", [node("Mul", "g k", "y"), node("Identity", "g", "y")])
@pytest.mark.parametrize("shape", [(2, 7), (2, 1), (7, 1)])
def test_rule_5_biases_of_single_images_stay_what_they_are(shape, tail):
    constants = {"w": draw(5, 7), "b": draw(*shape), "k": np.float32([2])}
    nodes = [node("Gemm", "x w b", "g", alpha=0.5, beta=3.0), tail]
    same(model_of(nodes, {"x": ("n", 5)}, constants), draw(shape[0], 5))


def test_rule_5_matmul_and_term_are_a_gemm():
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "y")]
    done = same(model_of(nodes, {"x": ("n", 5)}, {"w": draw(5, 7), "b": draw(7)}), draw(3, 5))
    assert kinds(done) == {"Gemm": 1}


def test_rule_5_products_of_more_axes_stay():
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "y")]
    done = same(model_of(nodes, {"x": ("n", 4, 5)}, {"w": draw(5, 7), "b": draw(7)}), draw(3, 4, 5))
    assert kinds(done) == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("opset", [17, 18])
def test_rule_6_means_over_positions_are_pools(keep, opset):
    if opset == 17:
        mean, constants = node("ReduceMean", "x", "y", axes=[2, -1], keepdims=keep), {}
    else:
        mean, constants = node("ReduceMean", "x axes", "y", keepdims=keep), {"axes": np.array([-2, 3])}
    done = same(model_of([mean], {"x": ("n", 3, 6, 6)}, constants, opset=opset))
    assert kinds(done) == ({"GlobalAveragePool": 1} if keep else {"GlobalAveragePool": 1, "Flatten": 1})


def test_rule_6_other_means_stay():
    assert kinds(same(model_of([node("ReduceMean", "x", "y", axes=[1, 2])], {"x": ("n", 3, 6, 6)})))["ReduceMean"] == 1


def test_a_prepared_model_stays_as_it_is():
    once = prepared(residual())
    assert prepared(once).SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


def test_metadata_stay():
    model = residual()
    model.metadata_props.add(key="preprocessing", value="{}")
    assert prepared(model).metadata_props[0].key == "preprocessing"


def test_quantized_models_are_refused():
    nodes = [node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s", "y")]
    with pytest.raises(QuantizationError, match="already"):
        prepared(model_of(nodes, {"x": ("n", 3)}, {"s": np.float32(1)}))


def test_damaged_models_are_refused():
    model = residual()
    model.graph.node[3].input[0] = "nowhere"
    with pytest.raises(ModelError):
        prepared(model)


def test_newer_opsets_are_reached():
    assert opset_of(with_opset(residual(), 21)) == 21
