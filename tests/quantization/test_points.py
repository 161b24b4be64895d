"""Which values become integers, rule by rule."""

import numpy as np
import pytest

from float_networks import draw, residual
from graph_tools import model_of, node
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared

W = {"w1": draw(4, 3, 3, 3), "w2": draw(4, 4, 3, 3), "w3": draw(4, 4, 1, 1)}
CONV1 = node("Conv", "x w1", "c1", name="conv1", pads=[1, 1, 1, 1])
CONV2 = node("Conv", "t w2", "c2", name="conv2")


def points(nodes, constants=None, outputs="c2", **options):
    return points_of(prepared(model_of(nodes, {"x": ("n", 3, 8, 8)}, {**W, **(constants or {})}, outputs)), **options)


def rounded(found):
    return {name for group in found.groups for name in group.values}


def group_of(found, name):
    return next(group for group in found.groups if name in group.values)


def test_residual_network():
    found = points_of(prepared(residual()))
    assert [group.values for group in found.groups] == [("x",), ("r1",), ("c2",), ("r2",), ("p", "f")]
    assert [(each.name, each.axis, each.kind) for each in found.weights] == [
        ("w1", 0, "conv"), ("w2", 0, "conv"), ("w3", 0, "linear"),
    ]  # fmt: skip
    assert found.floats == {}


def test_rule_1_the_last_matrix_product_gives_floats():
    assert "y" not in rounded(points_of(prepared(residual())))


@pytest.mark.parametrize(("tail", "high"), [(node("Relu", "c1", "t"), np.inf), (node("Clip", "c1 zero six", "t"), 6.0)])
def test_rule_2_the_rectifier_belongs_to_the_layer(tail, high):
    found = points([CONV1, tail, CONV2], {"zero": np.float32(0), "six": np.float32(6)})
    assert rounded(found) == {"x", "t", "c2"}
    assert (group_of(found, "t").low, group_of(found, "t").high) == (0.0, high)
    assert (group_of(found, "t").node, group_of(found, "t").kind) == ("conv1", "conv")


@pytest.mark.parametrize(
    "tail",
    [
        node("LeakyRelu", "c1", "t"), node("HardSwish", "c1", "t"), node("Clip", "c1 minus six", "t"),
        node("Clip", "c1 - six", "t"),
    ],
)  # fmt: skip
def test_rule_2_other_functions_do_not(tail):
    found = points([CONV1, tail, CONV2], {"minus": np.float32(-1), "six": np.float32(6)})
    assert rounded(found) == {"x", "c1", "t", "c2"}


def test_rule_2_a_second_reader_is_in_the_way():
    found = points([CONV1, node("Relu", "c1", "r"), node("Add", "r c1", "t"), CONV2])
    # x and max(x, 0) are functions of one number, and so is their sum.
    assert rounded(found) == {"x", "c1", "t", "c2"}


def test_rule_3_sums_of_integers():
    nodes = [CONV1, node("Conv", "c1 w3", "d", name="conv3"), node("Add", "c1 d", "s", name="sum"),
             node("Relu", "s", "t"), CONV2]  # fmt: skip
    assert rounded(points(nodes)) == {"x", "c1", "d", "t", "c2"}


def test_rule_3_a_sum_that_nobody_reads_as_integers_stays_float():
    nodes = [CONV1, node("Conv", "c1 w3", "d", name="conv3"), node("Add", "c1 d", "y", name="sum")]
    found = points(nodes, outputs="y")
    assert "y" not in rounded(found)
    assert "no integer operator reads" in found.floats["sum"]


def test_rule_3_gates_are_products_of_integers():
    nodes = [
        CONV1, node("GlobalAveragePool", "c1", "p"), node("Conv", "p w3", "g", name="gate"), node("Sigmoid", "g", "s"),
        node("Mul", "c1 s", "t", name="scale"), CONV2,
    ]  # fmt: skip
    found = points(nodes)
    assert rounded(found) == {"x", "c1", "p", "g", "s", "t", "c2"}
    assert (group_of(found, "s").low, group_of(found, "s").high) == (0.0, np.inf)


@pytest.mark.parametrize(
    "move",
    [
        node("MaxPool", "c1", "t", kernel_shape=[2, 2]), node("Transpose", "c1", "t", perm=[0, 1, 3, 2]),
        node("Identity", "c1", "t"), node("Pad", "c1 pads", "t", mode="reflect"),
        node("DepthToSpace", "c1", "e", blocksize=2),
        node("Slice", "c1 one four axes", "t"),
    ],
)  # fmt: skip
def test_rule_4_moves_share_a_scale(move):
    constants = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "one": np.array([1]), "four": np.array([6]),
                 "axes": np.array([2])}  # fmt: skip
    nodes = [CONV1, move]
    if move.op_type == "DepthToSpace":
        nodes.append(node("SpaceToDepth", "e", "t", blocksize=2))
    found = points([*nodes, CONV2], constants)
    assert set(group_of(found, "c1").values) >= {"c1", "t"}
    assert group_of(found, "t").observed == ("c1",)


def test_rule_4_padding_with_other_numbers_is_no_move():
    found = points([CONV1, node("Pad", "c1 pads one", "t", name="pad"), CONV2],
                   {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "one": np.float32(1)})  # fmt: skip
    assert group_of(found, "c1") != group_of(found, "t")
    assert "pad" in found.floats


CONCAT = [
    CONV1, node("Relu", "c1", "a"), node("Conv", "a w3", "b", name="conv3"), node("Concat", "a b", "t", axis=1),
    node("Conv", "t w8", "c2", name="conv2"),
]  # fmt: skip


def test_rule_4_what_is_concatenated_shares_a_scale():
    found = points(CONCAT, {"w8": draw(4, 8, 1, 1)})
    assert group_of(found, "t").values == ("a", "b", "t")
    assert group_of(found, "t").observed == ("a", "b")
    assert group_of(found, "t").low == -np.inf


def test_rule_4_or_not():
    found = points(CONCAT, {"w8": draw(4, 8, 1, 1)}, share_concat=False)
    assert [group.values for group in found.groups] == [("x",), ("a",), ("b",), ("t",), ("c2",)]


def test_rule_4_halves_of_a_split_have_the_scale_of_the_whole():
    nodes = [CONV1, node("Split", "c1", "a b", axis=1), node("Conv", "a w2h", "d", pads=[1, 1, 1, 1], name="conv3"),
             node("Concat", "d b", "t", axis=1), CONV2]  # fmt: skip
    found = points(nodes, {"w2h": draw(2, 2, 3, 3)})
    assert group_of(found, "t").values == ("c1", "a", "b", "d", "t")
    assert group_of(found, "t").observed == ("c1", "d")


def test_rule_5_functions_are_not_rounded_inside():
    nodes = [CONV1, node("Sigmoid", "c1", "s"), node("Mul", "c1 s", "t"), CONV2]
    assert rounded(points(nodes)) == {"x", "c1", "t", "c2"}


def test_rule_5_spelled_out():
    nodes = [CONV1, node("Add", "c1 three", "a"), node("Clip", "a zero six", "b"), node("Mul", "b c1", "d"),
             node("Div", "d six", "t"), CONV2]  # fmt: skip
    constants = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)}
    # The sum with 3 is folded into no layer, because the layer's value has two readers.
    assert rounded(points(nodes, constants)) == {"x", "c1", "t", "c2"}


@pytest.mark.parametrize(("kind", "limit"), [("Sigmoid", 6.0), ("Tanh", 4.0), ("HardSwish", np.inf)])
def test_rule_6_limits_of_what_saturates(kind, limit):
    found = points([CONV1, node(kind, "c1", "t"), CONV2])
    assert (group_of(found, "c1").low, group_of(found, "c1").high) == (-limit, limit)


def test_rule_6_not_with_another_reader():
    found = points([CONV1, node("Sigmoid", "c1", "s"), node("Mul", "c1 s", "t"), CONV2])
    assert group_of(found, "c1").high == np.inf


def test_rule_6_not_where_the_user_reads_too():
    found = points([CONV1, node("Sigmoid", "c1", "s")], outputs="c1 s")
    assert group_of(found, "c1").high == np.inf


def test_rule_7_outputs_of_convolutions_are_rounded():
    assert "c2" in rounded(points([CONV1, node("Relu", "c1", "t"), CONV2]))


def test_rule_7_moves_behind_the_last_layer_are_left_alone():
    found = points([CONV1, node("Relu", "c1", "t"), CONV2, node("Flatten", "c2", "y")], outputs="y")
    assert "y" not in rounded(found)


def test_rule_8_reasons():
    nodes = [CONV1, node("Softmax", "c1", "t", name="softmax", axis=1), CONV2]
    assert points(nodes).floats == {"softmax": "Softmax is computed in float"}


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [("conv*", {"conv1", "conv2"}), ("last", {"conv2"}), ("first", {"conv1"}), ("conv2", {"conv2"}),
     ("conv", {"conv1", "conv2"}), ("depthwise", {"dw"})],
)  # fmt: skip
def test_layers_are_kept_by_glob_kind_and_place(pattern, kept):
    nodes = [CONV1, node("Relu", "c1", "r"), node("Conv", "r wd", "t", group=4, name="dw"), CONV2]
    found = points(nodes, {"wd": draw(4, 1, 3, 3)}, keep_float=[pattern])
    assert set(found.floats) == kept
    assert not {name for each in found.weights for name in each.nodes} & kept


def test_between_float_layers_nothing_is_rounded():
    found = points([CONV1, node("Relu", "c1", "t"), CONV2], keep_float=["conv"])
    assert found.groups == () and found.weights == ()


def test_weights_that_cannot_be_integers():
    found = points([CONV1, node("Relu", "c1", "t"), CONV2], {"w2": np.full((4, 4, 3, 3), np.nan, np.float32)})
    assert "NaN" in found.floats["conv2"]
    assert "t" in rounded(found)  # conv1 gives integers all the same


def test_attention_products_take_integers():
    nodes = [node("MatMul", "x w", "q", name="q"), node("MatMul", "x v", "k", name="k"),
             node("Transpose", "k", "kt", perm=[0, 2, 1]), node("MatMul", "q kt", "a", name="scores"),
             node("Softmax", "a", "y", axis=-1, name="softmax")]  # fmt: skip
    model = model_of(nodes, {"x": ("n", 4, 6)}, {"w": draw(6, 6), "v": draw(6, 6, seed=1)})
    found = points_of(prepared(model))
    assert rounded(found) == {"x", "q", "k", "kt"}
    assert set(found.floats) == {"softmax"}
