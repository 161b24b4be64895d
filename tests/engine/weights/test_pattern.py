"""Planted patterns are found."""

import numpy as np
import pytest

from secateur.engine.weights.pattern import detect, occupied, packed


def weight(shape: tuple[int, ...], keep: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.standard_normal(shape) * np.broadcast_to(keep, shape)).astype(np.float32)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 8, 12, 16, 31, 32])
@pytest.mark.parametrize("kernels", [False, True])
def test_blocks_of_every_length(n: int, kernels: bool) -> None:
    rng = np.random.default_rng(n)
    o = n * 6
    taps = (1, 1) if kernels else (3, 3)
    keep = np.repeat(rng.random((6, 40, *taps)) < 0.3, n, axis=0)
    found = detect(weight((o, 40, 3, 3), keep))
    assert (found.kind, found.n, found.kernels) == ("blocks", n, kernels)
    assert found.density == pytest.approx(np.broadcast_to(keep, (o, 40, 3, 3)).mean())
    assert str(found).startswith(f"1x{n}" if kernels else f"1x{n}-fine")


def test_unstructured_is_no_block() -> None:
    rng = np.random.default_rng(0)
    for density in (0.05, 0.5, 0.9):
        assert detect(weight((64, 64, 3, 3), rng.random((64, 64, 3, 3)) < density)).kind == "unstructured"


def test_dense_and_empty() -> None:
    assert str(detect(weight((8, 8, 3, 3), np.ones(1)))) == "dense"
    nothing = detect(np.zeros((8, 8, 3, 3), np.float32))
    assert (nothing.density, nothing.empty_rows) == (0.0, 8)


def test_zero_rows_are_counted() -> None:
    keep = np.ones((8, 1, 1, 1))
    keep[[2, 5]] = 0
    assert detect(weight((8, 4, 3, 3), keep)).empty_rows == 2


def test_blocks_do_not_cross_groups() -> None:
    kept = np.zeros((6, 1), bool)
    kept[[2, 3]] = True  # the last channel of one group, the first of the next
    assert occupied(packed(kept), 2, 1) == 2
    assert occupied(packed(kept), 2, 2) == 3  # a block of one channel (each group has 3), and one of two


def test_a_few_zeros_inside_blocks_are_tolerated() -> None:
    rng = np.random.default_rng(0)
    keep = np.repeat(rng.random((16, 64)) < 0.3, 4, axis=0) & (rng.random((64, 64)) > 0.02)
    found = detect(weight((64, 64), keep))
    assert (found.kind, found.n) == ("blocks", 4)
    assert 0.95 <= found.fill < 1
