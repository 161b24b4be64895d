"""Streams of single channels say which weight meets which byte, for every block of rows, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.kernels.conv_form import PANEL_FIELDS
from secateur.engine.weights.by_bytes import ROWS, TURN, encode_bytes
from secateur.engine.weights.quads import single_channels, weight_quads
from secateur.engine.weights.streams import padded_order

DISTANCE = 10_000


def decoded(streams, block: int) -> dict[tuple[int, int], int]:
    """(row, byte that it meets) -> weight."""
    found: dict[tuple[int, int], int] = {}
    bytes_ = streams.weights.view(np.int8).reshape(-1, TURN)
    for record in streams.panels.tolist():
        start, place, word, row = record[:4]
        for index, turns in enumerate(record[len(PANEL_FIELDS) :]):
            for _ in range(turns):
                for r in range(block):
                    for j in range(TURN):
                        weight = int(bytes_[word + r, j])
                        if weight:
                            key = int(streams.rows[row + index * block + r]), start + int(streams.deltas[place + j])
                            assert key not in found
                            found[key] = weight
                place, word = place + TURN, word + block
    return found


def planted(seed: int, rows: int, channels: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, 128, (rows, channels), np.int16) * rng.choice([-1, 1], (rows, channels))
    return (weight * (rng.random((rows, channels)) < density)).astype(np.int8)


@pytest.mark.parametrize("block", [1, 2, 4])
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(1, 13), st.integers(1, 30), st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_streams_decode(block: int, seed: int, rows: int, channels: int, density: float) -> None:
    weight = planted(seed, rows, channels, density)
    words = weight_quads(weight)
    places = np.arange(words.shape[1], dtype=np.int64) * 7
    order = padded_order(np.arange(rows, dtype=np.int64), ROWS)
    starts = np.arange(len(order) // ROWS, dtype=np.int64) * 100
    streams = encode_bytes(words, places, DISTANCE, block, order=order, starts=starts)
    wanted = {
        (int(o), 100 * (int(o) // ROWS) + 7 * (int(c) // 4) + DISTANCE * (int(c) % 4)): int(weight[o, c])
        for o, c in zip(*np.nonzero(weight), strict=True)
    }
    assert decoded(streams, block) == wanted
    assert len(streams.deltas) == streams.positions + TURN, "kernels read the places of one turn more"


def test_blocks_share_their_places() -> None:
    weight = np.repeat(planted(0, 4, 256, 0.2), 4, axis=0)
    words = weight_quads(weight)
    arguments = (np.arange(64, dtype=np.int64), DISTANCE)
    order, starts = np.arange(16, dtype=np.int64), np.zeros(4, np.int64)
    single, four = (encode_bytes(words, *arguments, block, order=order, starts=starts) for block in (1, 4))
    assert four.nbytes < 0.5 * single.nbytes
    assert four.nbytes < 0.5 * weight.nbytes, "1x4 at 80 %: places and weights, a byte of each nonzero and one more"


def test_single_channels_are_those_of_the_weights() -> None:
    weight = planted(1, 6, 4 * 3 * 3 * 5, 0.4).reshape(6, 20, 3, 3)
    np.testing.assert_array_equal(single_channels(weight_quads(weight)).view(np.int8), weight)


def test_channels_that_only_fill_up_are_left_out() -> None:
    assert single_channels(weight_quads(np.ones((2, 3, 1, 1), np.int8))).shape == (2, 3, 1, 1)
    assert single_channels(weight_quads(np.zeros((2, 8), np.int8))).shape == (2, 5)
