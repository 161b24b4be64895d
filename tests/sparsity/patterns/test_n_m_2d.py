"""N:M in rows and columns: the oracle tile, all arrangements, limits of a tile."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import SquareNM, make_mask, parse_pattern
from secateur.sparsity.patterns.n_m_2d import arrangements

TILE = torch.tensor([[3.0, 7, 5, 8], [9, 9, 7, 4], [9, 6, 7, 8], [9, 4, 1, 8]])


@pytest.mark.parametrize(("spec", "kept", "total"), [("2:4-2d", 8, 64), ("2:4-2d-greedy", 7, 51)])
def test_oracle_tile(spec, kept, total):
    mask = make_mask(TILE, parse_pattern(spec), 0.5)
    assert int(mask.sum()) == kept and float(TILE[mask].sum()) == total


def test_number_of_arrangements():
    assert len(arrangements(2, 4)) == 90
    assert len(arrangements(1, 4)) == 24
    assert len(arrangements(1, 2)) == 2


@st.composite
def cases(draw):
    method = draw(st.sampled_from(["best", "greedy"]))
    m = draw(st.integers(2, 4 if method == "best" else 6))
    pattern = SquareNM(draw(st.integers(1, m - 1)), m, method)
    kernel = draw(st.sampled_from([(), (1, 1), (3, 3)]))
    groups = draw(st.integers(1, 2)) if kernel else 1
    shape = (groups * draw(st.integers(m, 2 * m + 1)), draw(st.integers(m, 2 * m + 1)), *kernel)
    return pattern, shape, groups


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 1000))
def test_rows_and_columns_of_every_tile(case, seed):
    pattern, shape, groups = case
    n, m = pattern.n, pattern.m
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    mask = make_mask(scores, pattern, 1 - n / m, groups=groups)
    filters = shape[0] // groups
    grouped = mask.reshape(groups, filters, shape[1], -1)
    rows, columns = filters // m * m, shape[1] // m * m
    assert grouped[:, rows:].all() and grouped[:, :, columns:].all()
    tiles = grouped[:, :rows, :columns].reshape(groups, rows // m, m, columns // m, m, -1)
    if pattern.method == "best":
        assert (tiles.sum(2) == n).all() and (tiles.sum(4) == n).all()
        assert int((~mask).sum()) == pattern.zeros(shape, 1 - n / m, groups=groups)
    else:
        assert (tiles.sum(2) <= n).all() and (tiles.sum(4) <= n).all()
        assert int((~mask).sum()) >= pattern.zeros(shape, 1 - n / m, groups=groups)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000))
def test_best_is_the_best_and_greedy_cannot_add_anything(seed):
    tile = torch.rand(4, 4, generator=torch.Generator().manual_seed(seed)).double()
    best = make_mask(tile, SquareNM(), 0.5)
    choices = torch.tensor(arrangements(2, 4)).double().reshape(-1, 4, 4)
    assert float(tile[best].sum()) == pytest.approx(float((choices * tile).sum((1, 2)).max()))
    greedy = make_mask(tile, SquareNM(method="greedy"), 0.5)
    room = (greedy.sum(1)[:, None] < 2) & (greedy.sum(0)[None] < 2)
    assert not bool((room & ~greedy).any())


def test_a_rising_level_takes_tile_by_tile():
    scores = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    for level, cut in ((0.0, 0), (0.125, 1), (0.25, 2), (0.5, 4)):
        mask = make_mask(scores, SquareNM(), level)
        assert int((~mask).sum()) == 8 * cut


def test_small_layers_stay_dense():
    assert "at least 4 filters and input channels, it has 8 and 3" in (SquareNM().applies((8, 3, 3, 3)) or "")


def test_too_many_arrangements_are_refused():
    with pytest.raises(SparsityError, match=r"use 4:8-2d-greedy"):
        parse_pattern("4:8-2d")
    assert parse_pattern("4:8-2d-greedy") == SquareNM(4, 8, "greedy")
