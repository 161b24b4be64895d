"""Operators that move elements become ONNX operators of every opset that move them to the same places."""

import numpy as np
import pytest

from graph_tools import feeds_of, one_node, run_checked

OPSETS = [11, 12, 13, 14, 17, 18, 20, 22]


@pytest.mark.parametrize("opset", OPSETS)
def test_moves(opset: int):
    x = {"x": (2, 3, 4, 6)}
    a = feeds_of(one_node("Reshape", x, {}, [(6, 24)], opset, shape=(6, 24)))["x"]
    for op, attributes, wanted in (
        ("Reshape", {"shape": (6, 24)}, [a.reshape(6, 24)]),
        ("Transpose", {"perm": (3, 1, 0, 2)}, [a.transpose(3, 1, 0, 2)]),
        ("Split", {"axis": 3, "sizes": (2, 4)}, [a[..., :2], a[..., 2:]]),
        ("Slice", {"starts": (2, 5), "ends": (4, -7), "axes": (2, 3), "steps": (1, -2)}, [a[:, :, 2:4, 5::-2]]),
        ("Pad", {"pads": (0, 0, 1, 0, 0, 0, 0, 2), "mode": "constant", "value": 2.5},
         [np.pad(a, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=2.5)]),
        ("Pad", {"pads": (0, 0, 1, 0, 0, 0, 0, 2), "mode": "reflect", "value": 0},
         [np.pad(a, ((0, 0), (0, 0), (1, 0), (0, 2)), mode="reflect")]),
        ("SpaceToDepth", {"blocksize": 2},
         [a.reshape(2, 3, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(2, 12, 2, 3)]),
    ):  # fmt: skip
        names = tuple("yz"[: len(wanted)])
        graph = one_node(op, x, {}, [part.shape for part in wanted], opset, outputs=names, **attributes)
        for found, part in zip(run_checked(graph), wanted, strict=True):
            np.testing.assert_allclose(found, part, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", OPSETS)
def test_channel_shuffle(opset: int):
    graph = one_node("ChannelShuffle", {"x": (2, 6, 4, 5)}, {}, [(2, 6, 4, 5)], opset, groups=3)
    x = feeds_of(graph)["x"]
    wanted = x.reshape(2, 3, 2, 4, 5).swapaxes(1, 2).reshape(2, 6, 4, 5)
    np.testing.assert_array_equal(run_checked(graph)[0], wanted)
