"""Streams decode to the weights that were encoded, for any weights, patterns and blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.kernels.conv_form import AHEAD, PANEL_FIELDS
from secateur.engine.weights.by_pattern import covers, encode
from secateur.engine.weights.every_position import encode_dense
from secateur.engine.weights.lockstep import encode_lockstep
from secateur.engine.weights.streams import Streams

Decoded = dict[tuple[int, int], float]


def walk(streams: Streams, patterns: tuple[int, ...], rows: int, *, dense: bool = False) -> Decoded:
    """What a kernel would add up: (output channel, place) -> weight, zeros left out."""
    found: Decoded = {}
    for record in streams.panels.tolist():
        x, delta, weight, row, _ = record[: len(PANEL_FIELDS)]
        delta = 0 if dense else delta
        for pattern, count in zip(patterns, record[len(PANEL_FIELDS) :], strict=True):
            place = x
            for _ in range(count):
                place += int(streams.deltas[delta])
                delta += 1
                for r in range(rows):
                    if pattern >> r & 1:
                        add(found, int(streams.rows[row + r]), place, float(streams.weights[weight]))
                        weight += 1
    return found


def add(found: Decoded, row: int, place: int, weight: float) -> None:
    if weight != 0:
        assert row >= 0, "a row that only pads has a weight"
        assert (row, place) not in found
        found[row, place] = weight


def planted(seed: int, rows: int, columns: int, density: float, far: int) -> tuple[np.ndarray, np.ndarray, Decoded]:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, columns)).astype(np.float32) * (rng.random((rows, columns)) < density)
    places = np.cumsum(rng.integers(1, far, columns))
    kept = {(int(o), int(places[k])): float(weight[o, k]) for o, k in zip(*np.nonzero(weight), strict=True)}
    return weight, places, kept


cases = {
    "seed": st.integers(0, 1000),
    "rows": st.integers(1, 13),
    "columns": st.integers(1, 40),
    "density": st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    "far": st.sampled_from([2, 100, 200_000]),
    "block": st.sampled_from([None, 1, 7, 64]),
}


@settings(max_examples=120, deadline=None)
@given(tile=st.sampled_from([(1, "all"), (2, "all"), (3, "all"), (4, "all"), (4, "full"), (8, "full")]), **cases)
def test_patterns_decode(tile, seed, rows, columns, density, far, block) -> None:
    height, kind = tile
    patterns = tuple(range(1, 2**height)) if kind == "all" else (2**height - 1,)
    weight, places, kept = planted(seed, rows, columns, density, far)
    streams = encode(weight, places, height, patterns, block=block)
    assert walk(streams, patterns, height) == kept
    assert streams.costs.shape == (len(streams.panels),)
    assert len(streams.deltas) == streams.positions + AHEAD


@settings(max_examples=120, deadline=None)
@given(height=st.integers(1, 6), **cases)
def test_lockstep_decodes(height, seed, rows, columns, density, far, block) -> None:
    weight, places, kept = planted(seed, rows, columns, density, far)
    streams = encode_lockstep(weight, places, height, block=block)
    found: Decoded = {}
    for record in streams.panels.tolist():
        x, delta, first, row, _ = record[: len(PANEL_FIELDS)]
        walked = [x] * height
        for turn in range(record[len(PANEL_FIELDS)]):
            for r in range(height):
                walked[r] += int(streams.deltas[delta + turn * height + r])
                add(found, int(streams.rows[row + r]), walked[r], float(streams.weights[first + turn * height + r]))
    assert found == kept


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 8), **{key: value for key, value in cases.items() if key != "block"})
def test_dense_decodes(height, seed, rows, columns, density, far) -> None:
    weight, places, kept = planted(seed, rows, columns, density, far)
    streams = encode_dense(weight, places, height)
    assert walk(streams, (2**height - 1,), height, dense=True) == kept


def test_the_place_ahead_is_that_of_the_eighth_position() -> None:
    weight, places, _ = planted(3, 4, 30, 1.0, 50)
    streams = encode(weight, places, 4, (15,))
    assert streams.panels[0, PANEL_FIELDS.index("ahead")] == places[AHEAD - 1]
    short = encode(weight[:, :3], places[:3], 4, (15,))
    assert short.panels[0, PANEL_FIELDS.index("ahead")] == places[2]


def test_bytes_follow_the_nonzeros() -> None:
    """1x4 blocks at 80 %: at most 25 % of the dense bytes, tables included."""
    rng = np.random.default_rng(0)
    kept = np.repeat(rng.random((64, 1024)) < 0.2, 4, axis=0)
    weight = rng.standard_normal(kept.shape).astype(np.float32) * kept
    assert encode(weight, np.arange(1024), 4, (15,)).nbytes < 0.25 * weight.nbytes


def test_the_smallest_pattern_is_taken() -> None:
    table = covers((1, 2, 4, 7), 3)[:, 0]
    assert table.tolist() == [-1, 0, 1, 3, 2, 3, 3, 3]
    with pytest.raises(ValueError, match="no pattern"):
        covers((1,), 2)


def test_a_set_without_a_pattern_is_walked_in_parts() -> None:
    assert covers((1, 2, 4, 8), 4)[[5, 15]].tolist() == [[0, 2, -1, -1], [0, 1, 2, 3]]
    assert covers((1, 2, 3, 4, 8, 12), 4)[[3, 7, 13]].tolist() == [[2, -1], [2, 3], [5, 0]]


def test_dense_in_blocks_keeps_zeros() -> None:
    weight, places, _ = planted(1, 8, 20, 0.3, 5)
    streams = encode(weight, places, 4, (15,), block=7, dense=True)
    assert streams.positions == 2 * 20


def test_blocks_of_32_rows_need_no_table_of_all_sets() -> None:
    weight = np.zeros((32, 6), np.float32)
    weight[:, [1, 4]] = 1
    streams = encode(weight, np.arange(6, dtype=np.int64), 32, (2**32 - 1,))
    assert streams.positions == 2
    assert len(streams.weights) == 64
