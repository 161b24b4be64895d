"""Windows: the best arrangement of a few stripes, against trying all of them."""

import numpy as np
import pytest

from secateur.sparsity.permutation.stripes import stripes_kept
from secateur.sparsity.permutation.windows import best_moves, moved, window_moves


@pytest.mark.parametrize(
    ("n", "m", "stripes"), [(2, 4, 2), (1, 4, 2), (3, 4, 2), (2, 4, 3), (1, 2, 2), (2, 3, 2), (4, 8, 2), (2, 8, 2)]
)
def test_gain_and_move_agree_with_trying_every_move(n, m, stripes):
    columns = np.random.default_rng(n * m).random((4 * m, 7)).round(1)  # many ties
    windows = np.array([[0, 1, 2][:stripes], [3, 1, 0][:stripes]])
    gains, choice = best_moves(columns, windows, n, m)
    moves = window_moves(m, stripes)
    for window, gain, chosen in zip(windows, gains, choice, strict=True):
        places = (window[:, None] * m + np.arange(m)).ravel()
        values = np.array([stripes_kept(columns[places[move]], n, m).sum() for move in moves])
        assert gain == pytest.approx(values.max() - values[0], abs=1e-12)
        assert values[chosen] == pytest.approx(values.max(), abs=1e-12)


def test_windows_of_many_rows_are_looked_at_in_parts(monkeypatch):
    columns = np.random.default_rng(0).random((12, 100))
    windows = np.array([[0, 1], [1, 2], [0, 2]])
    whole = best_moves(columns, windows, 2, 4)
    monkeypatch.setattr("secateur.sparsity.permutation.windows._CHUNK", 30)
    parts = best_moves(columns, windows, 2, 4)
    assert np.allclose(whole[0], parts[0]) and np.array_equal(whole[1], parts[1])


def test_moves_name_places_and_their_sources():
    places, sources = moved(np.array([[2, 0]]), np.array([[0, 1, 2, 4, 3, 5, 6, 7]]), 4)
    assert places.tolist() == [8, 9, 10, 11, 0, 1, 2, 3]
    assert sources.tolist() == [8, 9, 10, 0, 11, 1, 2, 3]
