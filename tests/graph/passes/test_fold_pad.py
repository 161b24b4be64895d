"""Tests are named after the rules of passes/fold_pad.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, normal, numbers, only, ops
from secateur.graph.passes.fold_pad import fold_pad
from secateur.graph.passes.remove_dead import remove_dead

X = {"x": (2, 3, 7, 7)}
W = {"w": numbers(4, 3, 3, 3)}
SIDES = np.array([0, 0, 1, 0, 0, 0, 2, 1])


def padded(
    second, value: float | None = 0.0, pads=SIDES, first=(), mode: str = "constant", outputs: str = "y", more=()
):
    constants = {**W, "p": np.asarray(pads)}
    if value is not None:
        constants["v"] = np.float32(value)
    source = "r" if first else "x"
    pad = node("Pad", f"{source} p v" if value is not None else f"{source} p", "h", mode=mode)
    return normal(graph_of([*first, pad, second, *more], X, constants, outputs))


CONV = node("Conv", "h w", "y", pads=[0, 1, 1, 0], strides=[2, 1])


def check(graph, kept: bool = False):
    after = remove_dead(fold_pad(graph))
    assert ("Pad" in ops(after)) == kept
    assert_same(graph, after)
    return after


def test_rule_2_zeros_before_conv():
    after = check(padded(CONV))
    assert only(after, "Conv").attributes["pads"] == (1, 1, 3, 1)
    check(padded(CONV, value=None))


def test_rule_1_other_pads_stay():
    check(padded(CONV, value=1.0), kept=True)
    check(padded(CONV, value=None, mode="reflect"), kept=True)
    wide = node("Conv", "h w", "y", group=1)
    check(padded(wide, pads=[1, 0, 1, 1, 0, 0, 1, 1]), kept=True)


def test_rule_3_maximum_pads_with_less_than_everything():
    pool = node("MaxPool", "h", "y", kernel_shape=[3, 3], strides=[2, 2])
    check(padded(pool, value=-np.inf))
    check(padded(pool, value=0.0), kept=True)
    for op in ("Relu", "Sigmoid"):
        check(padded(pool, first=[node(op, "x", "r")]))
    check(padded(pool, first=[node("Tanh", "x", "r")]), kept=True)


@pytest.mark.parametrize(
    ("pads", "counted", "kept"),
    [([0] * 4, 0, False), ([0] * 4, 1, False), ([1, 0, 0, 0], 1, False), ([1, 0, 0, 0], 0, True)],
)
def test_rule_4_average_counts_the_padding(pads, counted: int, kept: bool):
    pool = node("AveragePool", "h", "y", kernel_shape=[3, 4], pads=pads, count_include_pad=counted)
    after = check(padded(pool), kept)
    assert kept or only(after, "Pool").attributes["count_include_pad"]


def test_rule_4_average_with_ceil_mode():
    pool = node("AveragePool", "h", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    check(padded(pool, pads=[0, 0, 1, 1, 0, 0, 0, 0]), kept=True)


def test_rule_5_padding_smaller_than_the_window():
    pool = node("AveragePool", "h", "y", kernel_shape=[2, 2])
    check(padded(pool, pads=[0, 0, 2, 0, 0, 0, 0, 0]), kept=True)


def test_rule_6_other_readers_keep_the_pad():
    graph = padded(CONV, outputs="y z", more=[node("Neg", "h", "z")])
    after = check(graph, kept=True)
    assert only(after, "Conv").inputs[0] == "x"
