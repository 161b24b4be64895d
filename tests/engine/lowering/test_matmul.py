"""Products of matrices against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.matmul  # noqa: F401  (registers the lowering)
from engine.harness import ISAS, assembly
from engine.peers import lowered
from secateur.engine.kernels.matmul import MatMul

RANDOM = np.random.default_rng(19)


def check(a: np.ndarray, b: np.ndarray, isa: str, pad: int, constants: tuple[int, ...] = ()) -> None:
    exact = a.astype(np.float64) @ b.astype(np.float64)
    (y,) = lowered("MatMul", [a, b], [exact.shape], {}, isa, pad=pad, constants=constants)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert (np.abs(y - exact) <= 1.01 * (a.shape[-1] + 1) * 2**-24 * size + 1e-37).all()


@pytest.mark.parametrize("isa", ISAS)
@given(
    outer=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    sizes=st.tuples(st.integers(1, 15), st.integers(1, 20), st.integers(1, 140)),
    spread=st.tuples(st.booleans(), st.booleans()),
    shorter=st.integers(0, 3),
    pad=st.integers(0, 2),
)
@settings(max_examples=80, deadline=None)
def test_any_sizes_and_broadcasts(isa: str, outer, sizes, spread, shorter: int, pad: int) -> None:
    m, k, n = sizes
    left, right = (tuple(1 if wide and i % 2 else size for i, size in enumerate(outer)) for wide in spread)
    right = right[min(shorter, len(right)) :]
    a = RANDOM.standard_normal((*left, m, k)).astype(np.float32)
    b = RANDOM.standard_normal((*right, k, n)).astype(np.float32)
    check(a, b, isa, pad)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(197, 64, 197), (197, 197, 64), (49, 32, 49), (49, 49, 32), (64, 9, 48), (1, 300, 1000)]
)
def test_attention(isa: str, m: int, k: int, n: int) -> None:
    a = RANDOM.standard_normal((1, 3, m, k)).astype(np.float32)
    b = RANDOM.standard_normal((1, 3, k, n)).astype(np.float32)
    check(a, b, isa, 0)
    check(a, b, isa, 0, constants=(0,))


@pytest.mark.parametrize("isa", ISAS)
def test_nan_stays_in_its_rows(isa: str) -> None:
    a, b = np.ones((7, 5), np.float32), np.ones((5, 50), np.float32)
    a[3, 2] = np.nan
    (y,) = lowered("MatMul", [a, b], [(7, 50)], {}, isa)
    assert np.isnan(y[3]).all()
    assert np.isnan(y).sum() == 50


@pytest.mark.parametrize("tile", [(6, 4), (8, 3), (12, 2)])
def test_neon_code_has_no_calls(tile: tuple[int, int]) -> None:
    assert "\tbl\t" not in assembly(MatMul(*tile), "neon")
