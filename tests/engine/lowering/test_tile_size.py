"""Tiles cover a map, and are cut the way that its convolutions like."""

from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.lowering.tile_size import LONGEST, RegisterTile, tile_lines


@given(
    st.integers(1, 300),
    st.dictionaries(st.builds(RegisterTile, st.integers(1, 14), st.booleans()), st.floats(1, 1e9), min_size=1),
)
def test_tiles_cover_the_map(lines: int, users: dict[RegisterTile, float]) -> None:
    tiles = tile_lines(lines, users)
    assert sum(tiles) == lines
    assert 0 < min(tiles) <= max(tiles) <= LONGEST


def test_long_register_tiles_want_equal_tiles() -> None:
    assert tile_lines(14, {RegisterTile(6): 1.0}) == (5, 5, 4)


def test_short_register_tiles_want_multiples_of_their_length() -> None:
    assert tile_lines(14, {RegisterTile(3): 1.0}) == (6, 6, 2)


def test_most_work_decides() -> None:
    assert tile_lines(14, {RegisterTile(3): 1.0, RegisterTile(6): 100.0}) == (5, 5, 4)
    assert tile_lines(14, {RegisterTile(3): 100.0, RegisterTile(6): 1.0}) == (6, 6, 2)


def test_tiles_that_are_computed_whole_are_cut_so() -> None:
    assert tile_lines(14, {RegisterTile(4, whole=True): 1.0}) == (4, 4, 4, 2)
    assert tile_lines(12, {RegisterTile(2, whole=True): 1.0}) == (6, 6)
