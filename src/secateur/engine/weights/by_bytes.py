"""From a matrix of 8-bit weights to streams that walk single input channels, four positions at a time.

    list (panel, block of n rows):  positions (channel, tap) where one of the n rows is nonzero, filled up to fours
    turn:                           four places (i32 bytes),  n words: four weights of a row each

Quads of four neighbouring channels are left out only when all four weights are zero, which 80 % unstructured zeros
leave of every second quad. Here all zeros count: of single weights (n = 1), and of 1xN blocks (n = 2, 4).
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.conv_form import PANEL_FIELDS
from secateur.engine.weights.streams import Ints, Streams, nonzeros, panel_rows

# Rows of a panel: results are written as quads.
ROWS = 4
TURN = 4


def encode_bytes(
    words: NDArray[np.uint32],
    places: Ints,
    distance: int,
    block: int,
    *,
    order: Ints,
    starts: Ints,
) -> Streams:
    """Streams of a matrix.

    words     (O, K) quads
    places    (K,) byte of every position in the planes of its first channel
    distance  bytes from there to its place in the planes of the second channel, and so on
    block     n
    order     of the O rows in panels of ROWS
    starts    (panels,) byte that a panel's places count from
    """
    panels_of_all, columns = len(order) // ROWS, words.shape[1]
    lists = panels_of_all * (ROWS // block)
    own = panel_rows(words, order, ROWS).view(np.uint8).reshape(lists, block, columns * 4)
    kept: NDArray[np.bool_] = np.any(own, axis=1)
    found, ends = nonzeros(kept)
    of = np.repeat(np.arange(lists), np.diff(ends, prepend=0))
    position = found - of * (columns * 4)
    counts = np.bincount(of, minlength=lists)
    turns = -(-counts // TURN)
    begins = np.cumsum(turns) - turns
    slot = (begins * TURN)[of] + np.arange(len(found)) - (np.cumsum(counts) - counts)[of]

    every = (places[:, None] + np.arange(4) * distance).reshape(-1)
    total = int(turns.sum())
    # Kernels read the places of a turn before they know that there is none.
    stream = np.zeros((total + 1) * TURN, np.int32)
    stream[slot] = every[position]
    values = np.zeros((total, block, TURN), np.uint8)
    for r in range(block):
        values[slot // TURN, r, slot % TURN] = own[of, r, position]

    shape = (panels_of_all, ROWS // block)
    panels = np.zeros((panels_of_all, len(PANEL_FIELDS) + shape[1]), np.int32)
    panels[:, 0] = starts
    panels[:, 1] = begins.reshape(shape)[:, 0] * TURN
    panels[:, 2] = begins.reshape(shape)[:, 0] * block
    panels[:, 3] = np.arange(panels_of_all) * ROWS
    panels[:, len(PANEL_FIELDS) :] = turns.reshape(shape)
    # A turn interleaves for as long as two rows of four positions are multiplied.
    costs = turns.reshape(shape).sum(axis=1) * (block + 2.0) + 2.0 * ROWS
    return Streams(panels, stream, values.view("<u4").reshape(-1), order, costs, total * TURN)
