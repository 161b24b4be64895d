"""Tiles and units cover every output exactly once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.layout import ALIGN, Planes, Tiled, planes, split
from secateur.engine.lowering.tiles import SINGLE, plan_tiles, plan_units


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.just(4), st.integers(1, 30), st.integers(2, 60)),
    st.integers(0, 3),
    st.integers(1, 6),
    st.sampled_from([4, 8, 16]),
    st.booleans(),
)
def test_tiles_cover_every_row_of_every_image(shape, pad: int, most: int, lanes: int, whole: bool) -> None:
    layout = planes(shape, pad)
    source = Planes(layout.n, 2, layout.h, layout.w, layout.pitch, 500, 1000)
    tiles = plan_tiles(layout, most, lanes, source=source, target=layout, residual=None, shift=-5, whole=whole)
    covered = np.zeros((layout.n, layout.plane_stride), int)
    for (x, y, _, mask, size), work in zip(tiles.table, tiles.work, strict=True):
        vectors = tiles.vectors[size]
        assert work == ((most if vectors > 1 else SINGLE * most) if whole else vectors)
        image, offset = divmod(y // 4, layout.image_stride)
        assert offset == mask * lanes
        assert x // 4 == image * 1000 + offset - 5
        covered[image, offset : offset + vectors * lanes] += 1
    body = (layout.h - 1) * layout.pitch + layout.w
    assert (covered[:, :body] == 1).all()
    assert (covered <= 1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.integers(2, 60)),
    st.integers(0, 3),
    st.integers(1, 7),
    st.sampled_from([4, 8, 16]),
    st.integers(1, 7),
)
def test_tiles_of_a_tensor_in_tiles_lie_where_its_pixels_are(shape, pad: int, most: int, lanes: int, lines: int):
    layout = planes(shape, pad)
    inside = Tiled(*shape, layout.pitch, tuple(split(layout.vectors, lines)))
    tiles = plan_tiles(layout, most, lanes, source=inside, target=layout, residual=inside, shift=0)
    begins = np.cumsum([0, *inside.lines]) * ALIGN
    covered = np.zeros((layout.n, begins[-1]), int)
    images = np.repeat(np.arange(layout.n), len(tiles.work) // layout.n)
    for (x, y, residual, mask, size), image in zip(tiles.table, images, strict=True):
        vectors = tiles.vectors[size]
        pixel = mask * lanes
        block = np.searchsorted(begins, pixel, side="right") - 1
        assert x == residual == 4 * (image * inside.image_stride + block * inside.tile_stride + pixel - begins[block])
        assert y == 4 * (image * layout.image_stride + pixel)
        assert pixel + vectors * lanes <= begins[block + 1], "it leaves the tile"
        covered[image, pixel : pixel + vectors * lanes] += 1
    assert (covered[:, : (layout.h - 1) * layout.pitch + layout.w] == 1).all()
    assert (covered <= 1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 9))
def test_units_cover_every_pair_once(panels: int, groups: int, threads: int, chunks: int) -> None:
    layout = planes((2, 4, 13, 9), 1)
    tiles = plan_tiles(layout, 3, 16, source=layout, target=layout, residual=None, shift=0)
    bounds = np.arange(groups + 1) * panels
    costs = np.random.default_rng(panels).random(panels * groups)
    units, unit_costs = plan_units(tiles, costs, threads, bounds=bounds, chunks=chunks)
    seen = np.zeros((len(tiles.work), panels * groups), int)
    for tile, begin, end, _, _ in units:
        assert begin // panels == (end - 1) // panels, "a unit joins two groups"
        seen[tile, begin:end] += 1
    assert (seen == 1).all()
    assert (unit_costs > 0).all()


def test_kernels_that_compute_whole_vectors_get_one_short_tile():
    layout = planes((2, 8, 14, 14))
    tiles = plan_tiles(layout, 4, 16, source=layout, target=layout, residual=None, shift=0, unit=1, whole=True)
    assert tiles.vectors == (4, 1)
    assert tiles.work.tolist() == 2 * [4, 4, 4, 2.2]
    assert tiles.table[:4, 0].tolist() == [0, 64, 128, 192], "in bytes"
