"""Layers of 8-bit integers are chosen for as float ones are: sparse where it pays, dense with the reason elsewhere."""

import numpy as np
import pytest

from engine.harness import runnable
from engine.lowering.test_conv import make_shape
from engine.lowering.test_quad_convolution import expected, make_graph
from secateur.engine.choose import ByPrediction
from secateur.engine.compile import lower
from secateur.engine.cost import candidates
from secateur.engine.lowering.quad_linear import zeros_of_quads
from secateur.engine.native import NativeProgram
from secateur.engine.target import cross_target, host_target
from secateur.engine.tune import time_choices
from secateur.engine.weights.pattern import detect
from secateur.engine.weights.quads import reach, row_sums, weight_quads

SHAPE = make_shape(1, 64, 14, 14, 64, (3, 3), pads=(1, 1, 1, 1))


def planted(graph, share: float, rows: int, channels: int):
    """The graph with this share of zero blocks of its weight."""
    weight = np.random.default_rng(0).integers(1, 128, graph.constants["w"].shape, np.int16).astype(np.int8)
    o, c, kh, kw = weight.shape
    kept = np.random.default_rng(1).random((o // rows, c // channels, kh, kw)) >= share
    graph.constants["w"] = weight * np.repeat(np.repeat(kept, rows, 0), channels, 1).astype(np.int8)
    return graph


@pytest.mark.parametrize(
    ("share", "rows", "channels", "formats", "pattern"),
    [
        (0.0, 1, 1, {"dense"}, "dense"),
        (0.5, 1, 1, {"dense"}, "unstructured 50."),
        (0.9, 1, 4, {"panel", "rows", "block"}, "4-in "),
        (0.8, 4, 4, {"block"}, "4x4-in "),
        (0.9, 4, 1, {"bytes"}, "1x4-fine 89."),
        (0.95, 1, 1, {"bytes"}, "unstructured 95."),
    ],
)
def test_a_layer_of_a_network(share, rows, channels, formats, pattern):
    target = host_target()
    graph, arrays = make_graph(SHAPE)
    planted(graph, share, rows, channels)
    wanted = expected(graph, arrays)
    program, (fact,) = lower(graph, target, 2, ByPrediction(target))
    assert (fact.bits, fact.choice.format in formats) == (8, True), fact
    assert fact.pattern.startswith(pattern)
    assert bool(fact.reason) == (fact.choice.format == "dense" and share > 0)
    np.testing.assert_array_equal(NativeProgram(program, target, 2).run(arrays)["y"], wanted)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon"])
def test_dense_is_always_a_candidate_and_panels_hold_whole_quads(isa):
    weight = weight_quads(planted(make_graph(SHAPE)[0], 0.8, 1, 4).constants["w"])
    found = candidates(SHAPE.in_quads, detect(weight), cross_target(isa))
    assert {"dense", "panel", "rows"} <= {choice.format for choice in found}
    assert all(choice.rows % 4 == 0 and choice.vectors > 0 and choice.block is None for choice in found)


@pytest.mark.skipif(not runnable("avx2"), reason="the processor runs none of the kernels here")
def test_candidates_are_timed():
    shape = make_shape(1, 16, 7, 7, 8, (1, 1)).in_quads
    weight = np.random.default_rng(0).integers(1, 1 << 32, (8, 4, 1, 1), np.uint32)
    target = host_target()
    choices = [choice for choice in candidates(shape, detect(weight), target) if choice.primitive == "direct"][:2]
    assert all(seconds > 0 for _, seconds in time_choices(target, 1, shape, weight, choices))


def test_four_channels_are_one_word():
    weight = np.arange(-3, 3, dtype=np.int8).reshape(1, 6)
    assert weight_quads(weight).tolist() == [[0x00FFFEFD, 0x00000201]]
    assert row_sums(weight).tolist() == [-3]
    assert reach(weight, np.array([-7], np.int32)).tolist() == [255 * 9 + 7]


def test_zeros_in_words():
    weight = np.ones((8, 16), np.int8)
    weight[:, 4:12] = 0
    assert zeros_of_quads(detect(weight_quads(weight)), 0.5) == "8x4-in 50.0 %"
    weight[0, 4], weight[2, 8], weight[5, 1] = 1, 1, 0
    assert zeros_of_quads(detect(weight_quads(weight)), 0.508).startswith("unstructured 49.2 %")
