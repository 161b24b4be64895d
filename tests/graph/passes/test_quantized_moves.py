"""Tests are named after the rules of passes/quantized_moves.py."""

import numpy as np
import pytest
from onnx import helper

from quantized_graphs import QdqFile, check_steps, integer_ops
from secateur.graph.quantized import Grid

X = Grid(0.05, 120, "uint8")
SIDES = {"x": (2, 4, 6, 6)}


def moved(file: QdqFile, kind: str, x: str) -> str:
    integers = {"shape": [2, -1], "starts": [1], "ends": [3], "axes": [1], "indices": [3, 0, 2]}
    arrays = {key: np.array(value, np.int64) for key, value in integers.items()}
    if kind == "Reshape":
        return file.op("Reshape", x, file.constant(arrays["shape"]))
    if kind == "Transpose":
        return file.op("Transpose", x, perm=[0, 2, 3, 1])
    if kind == "Slice":
        return file.op("Slice", x, *(file.constant(arrays[key]) for key in ("starts", "ends", "axes")))
    if kind == "Gather":
        return file.op("Gather", x, file.constant(arrays["indices"]), axis=1)
    if kind == "Resize":
        return file.op("Resize", x, "", file.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    if kind == "Pad":
        return file.op("Pad", x, file.constant(np.array([0, 0, 1, 1, 0, 0, 0, 1], np.int64)))
    if kind == "MaxPool":
        return file.op("MaxPool", x, kernel_shape=[2, 2])
    return file.op(kind, x, blocksize=2)


KINDS = ["Reshape", "Transpose", "Slice", "Gather", "Resize", "Pad", "MaxPool", "DepthToSpace", "SpaceToDepth"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signed", [False, True])
def test_rule_3_dequantize_behind(kind: str, signed: bool):
    x = Grid(0.05, -8, "int8") if signed else X
    file = QdqFile()
    file.op("Exp", moved(file, kind, file.between("x", x)), out="y")
    ops = integer_ops(check_steps(file.model(SIDES), 1e-3))
    assert ops[0] == "Quantize" and ops[-2:] == ["Dequantize", "Activate"] and len(ops) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_rule_5_quantize_before(kind: str):
    file = QdqFile()
    file.between(moved(file, kind, file.op("Tanh", "x")), X, "y")
    ops = integer_ops(check_steps(file.model(SIDES), X.scale))
    assert ops[:2] == ["Activate", "Quantize"] and ops[-1] == "Dequantize" and len(ops) == 4


def test_rule_1_other_resizes_stay_float():
    file = QdqFile()
    scales = file.constant(np.array([1, 1, 2, 2], np.float32))
    file.between(file.op("Resize", file.between("x", X), "", scales, mode="linear"), X, "y")
    assert integer_ops(check_steps(file.model(SIDES), X.scale)) == [
        "Quantize",
        "Dequantize",
        "Resize",
        "Quantize",
        "Dequantize",
    ]


def test_rule_1_a_pad_with_a_number_between_the_integers_stays_float():
    file = QdqFile()
    pads, value = file.constant(np.array([0, 0, 1, 1, 0, 0, 0, 1], np.int64)), file.constant(np.float32(0.07))
    file.between(file.op("Pad", file.between("x", X), pads, value), X, "y")
    assert "Dequantize" in integer_ops(check_steps(file.model(SIDES), X.scale))[:2]


def test_splits_and_shuffles_between_convolutions():
    file = QdqFile()
    sizes = file.constant(np.array([2, 2], np.int64))
    q = file.between("x", X)
    file.nodes.append(helper.make_node("Split", [q, sizes], ["left", "right"], axis=1))
    y = Grid(0.1, 100, "uint8")
    left = file.between(file.op("Conv", "left", file.weight((2, 2, 1, 1)), kernel_shape=[1, 1]), X)
    whole = file.between(file.op("Concat", left, file.between("right", X), axis=1), X)
    shape = [file.constant(np.array(sides, np.int64)) for sides in ([2, 2, 2, 6, 6], [2, 4, 6, 6])]
    value = file.op("Transpose", file.op("Reshape", whole, shape[0]), perm=[0, 2, 1, 3, 4])
    value = file.between(file.op("Reshape", value, shape[1]), X)
    file.between(file.op("Conv", value, file.weight((3, 4, 1, 1)), kernel_shape=[1, 1]), y, "y")
    ops = integer_ops(check_steps(file.model(SIDES), y.scale))
    assert sorted(ops) == sorted(["Quantize", "Split", "QConv", "Concat", "ChannelShuffle", "QConv", "Dequantize"])


def test_padding_in_front_of_a_convolution_of_integers():
    file = QdqFile()
    pads = file.constant(np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))
    value = file.op("Pad", file.between("x", X), pads)
    file.between(file.op("Conv", value, file.weight((3, 4, 3, 3)), kernel_shape=[3, 3]), Grid(0.3, 100, "uint8"), "y")
    assert integer_ops(check_steps(file.model(SIDES), 0.3)) == ["Quantize", "QConv", "Dequantize"]
