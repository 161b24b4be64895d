"""When single channels of 8-bit integers are walked: where their zeros pay, and never where blocks do not fit."""

import numpy as np
import pytest

from engine.lowering.test_conv import make_shape
from secateur.engine.choose import ByPrediction
from secateur.engine.cost_bytes import byte_choices, predict_bytes
from secateur.engine.target import cross_target
from secateur.engine.weights.pattern import detect

SHAPE = make_shape(1, 256, 14, 14, 256, (1, 1)).in_quads
VNNI = cross_target("avx512", more=("avx512vnni",))


def zeros(share: float, rows: int):
    kept = np.random.default_rng(0).random((256 // rows, 256, 1, 1)) >= share
    return detect(np.repeat(kept, rows, axis=0).astype(np.uint8))


@pytest.mark.parametrize(("rows", "blocks"), [(1, {1}), (2, {1, 2}), (4, {1, 2, 4}), (8, {1, 2, 4})])
def test_blocks_that_the_zeros_have(rows: int, blocks: set[int]) -> None:
    assert {choice.rows for choice in byte_choices(SHAPE, zeros(0.8, rows), VNNI)} == blocks


def test_nothing_for_dense_weights() -> None:
    assert not list(byte_choices(SHAPE, detect(np.ones((256, 256, 1, 1), np.uint8)), VNNI))


def test_blocks_fit_the_registers() -> None:
    assert {choice.rows for choice in byte_choices(SHAPE, zeros(0.8, 4), cross_target("avx2"))} == {1, 2}


def test_time_follows_the_zeros() -> None:
    for rows in (1, 4):
        costs = []
        for share in (0.5, 0.8, 0.95):
            pattern = zeros(share, rows)
            costs.append(min(predict_bytes(c, SHAPE, pattern, VNNI) for c in byte_choices(SHAPE, pattern, VNNI)))
        assert costs == sorted(costs, reverse=True)
        assert costs[0] / costs[1] > 1.7


def test_blocks_pay_earlier_than_single_weights() -> None:
    chooser = ByPrediction(VNNI)
    weight = np.random.default_rng(1).integers(1, 1 << 32, (256, 64, 1, 1), np.uint32)
    words = detect(weight)
    kinds = {}
    for rows in (1, 4):
        pattern = type(words)(**{**words.__dict__, "single": zeros(0.75, rows)})
        kinds[rows] = chooser("layer", SHAPE, weight, pattern).choice.format
    assert kinds == {1: "dense", 4: "bytes"}
