"""Tiles cover a map, and are cut the way that its convolutions like."""

from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.lowering.tile_size import LONGEST, tile_lines


@given(st.integers(1, 300), st.dictionaries(st.integers(1, 14), st.floats(1, 1e9), min_size=1))
def test_tiles_cover_the_map(lines: int, users: dict[int, float]) -> None:
    tiles = tile_lines(lines, users)
    assert sum(tiles) == lines
    assert 0 < min(tiles) <= max(tiles) <= LONGEST


def test_long_register_tiles_want_equal_tiles() -> None:
    assert tile_lines(14, {6: 1.0}) == (5, 5, 4)


def test_short_register_tiles_want_multiples_of_their_length() -> None:
    assert tile_lines(14, {3: 1.0}) == (6, 6, 2)


def test_most_work_decides() -> None:
    assert tile_lines(14, {3: 1.0, 6: 100.0}) == (5, 5, 4)
    assert tile_lines(14, {3: 100.0, 6: 1.0}) == (6, 6, 2)
