"""Tables over planes of quads, from tables over channels."""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import quads_of

Ints = NDArray[np.int64]


def by_quads(per_channel: Ints, images: int, missing: int | None = None) -> Ints:
    """(images quads, 4) from numbers per channel, (images channels,).

    missing    for channels that the last quad lacks; the number of the channel before them when not given
    """
    table = per_channel.reshape(images, -1)
    lacking = 4 * quads_of(table.shape[1]) - table.shape[1]
    wide = np.pad(table, ((0, 0), (0, lacking)), mode="edge")
    if missing is not None and lacking:
        wide[:, -lacking:] = missing
    return wide.reshape(-1, 4)
