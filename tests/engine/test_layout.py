"""Layouts give every element a place of its own."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.layout import ALIGN, Tiled, planes, split


@given(st.integers(1, 300), st.integers(1, 14))
def test_parts_are_nearly_equal(count: int, most: int) -> None:
    sizes = split(count, most)
    assert sum(sizes) == count
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20), st.integers(1, 40)),
    st.integers(0, 3),
    st.integers(1, 7),
)
def test_tiles_hold_every_pixel_once(shape, pad: int, lines: int) -> None:
    whole = planes(shape, pad)
    layout = Tiled(*shape, whole.pitch, tuple(split(whole.vectors, lines)))
    assert sum(layout.lines) == whole.vectors
    begins = np.cumsum([0, *layout.lines]) * ALIGN
    pixels = np.arange(shape[2])[:, None] * layout.pitch + np.arange(shape[3])
    tile = np.searchsorted(begins, pixels, side="right") - 1
    image, channel = np.arange(shape[0])[:, None, None, None], np.arange(shape[1])[:, None, None]
    places = image * layout.image_stride + tile * layout.tile_stride + channel * layout.tile + pixels - begins[tile]
    assert len(np.unique(places)) == places.size
    assert places.min() >= 0 and places.max() < layout.size
