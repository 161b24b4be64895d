"""Choices: what is asked for is taken, sparse wins where it should, dense stays with a reason."""

import numpy as np
import pytest

from secateur.engine.choice import Choice
from secateur.engine.choose import ByPrediction, check_primitive, keep_or_dense
from secateur.engine.cost import candidates
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.registers import most_vectors
from secateur.engine.target import cross_target
from secateur.engine.weights.pattern import detect
from secateur.errors import EngineError

TARGETS = {isa: cross_target(isa) for isa in ("avx512", "avx2", "neon")}
LAYER = ConvShape(1, 128, 28, 28, 128, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 28, 28)
POINT = ConvShape(1, 512, 14, 14, 256, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 14, 14)


def pattern_of(shape: ConvShape, density: float, n: int = 1):
    rng = np.random.default_rng(0)
    kept = np.repeat(rng.random((shape.o // n, shape.c, *shape.kernel)) < density, n, axis=0)
    return detect(rng.standard_normal(kept.shape).astype(np.float32) * kept)


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize("shape", [LAYER, POINT], ids=["3x3", "1x1"])
def test_blocks_at_half_the_weights_already_win(isa: str, shape: ConvShape) -> None:
    decision = ByPrediction(TARGETS[isa])("layer", shape, np.zeros(0), pattern_of(shape, 0.5, 4))
    assert decision.choice.format == "block"
    assert decision.choice.rows in (2, 4)
    assert not decision.reason


@pytest.mark.parametrize("isa", TARGETS)
def test_ninety_percent_unstructured_wins(isa: str) -> None:
    decision = ByPrediction(TARGETS[isa])("layer", LAYER, np.zeros(0), pattern_of(LAYER, 0.1))
    assert decision.choice.format in ("panel", "rows")


@pytest.mark.parametrize("isa", TARGETS)
def test_few_zeros_stay_dense_with_the_reason(isa: str) -> None:
    decision = ByPrediction(TARGETS[isa])("layer", LAYER, np.zeros(0), pattern_of(LAYER, 0.95))
    assert decision.choice.format == "dense"
    assert "5 % zeros" in decision.reason


@pytest.mark.parametrize("primitive", ["direct", "gemm", "pack"])
def test_the_primitive_that_is_asked_for(primitive: str) -> None:
    chooser = ByPrediction(TARGETS["avx512"], primitive)
    assert chooser("layer", LAYER, np.zeros(0), pattern_of(LAYER, 0.2)).choice.primitive == primitive
    by_layer = ByPrediction(TARGETS["avx512"], {"layer": primitive})
    assert by_layer("layer", LAYER, np.zeros(0), pattern_of(LAYER, 0.2)).choice.primitive == primitive


def test_zeros_can_be_ignored() -> None:
    chooser = ByPrediction(TARGETS["avx512"], format="dense")
    assert chooser("layer", LAYER, np.zeros(0), pattern_of(LAYER, 0.1, 4)).choice.format == "dense"


def test_an_unknown_primitive_is_a_sentence() -> None:
    with pytest.raises(EngineError, match="'winograd' is unknown; it can be auto, direct, gemm, pack"):
        check_primitive("winograd")


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 16])
def test_candidates_fit_the_registers(isa: str, n: int) -> None:
    shape = ConvShape(1, 96, 14, 14, 96, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 14, 14)
    found = candidates(shape, pattern_of(shape, 0.3, n), TARGETS[isa])
    assert {choice.primitive for choice in found} == {"direct", "gemm", "pack"}
    assert all(1 <= choice.vectors <= most_vectors(choice.rows, TARGETS[isa]) for choice in found)


def test_a_small_gain_is_noise() -> None:
    sparse, dense = Choice("panel", "direct", 4, 6), Choice("dense", "direct", 8, 3)
    pattern = pattern_of(LAYER, 0.5)
    assert keep_or_dense([(sparse, 0.97), (dense, 1.0)], pattern).choice is dense
    assert keep_or_dense([(sparse, 0.90), (dense, 1.0)], pattern).choice is sparse
