"""Which lanes of a plane's vectors hold pixels."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Planes


def mask_table(layout: Planes, lanes: int) -> NDArray[np.uint16]:
    """(plane_stride / lanes,) one bit per lane: set where the element belongs to the map."""
    return _table(layout.h, layout.w, layout.pitch, layout.plane_stride, lanes)


@lru_cache(maxsize=256)
def _table(h: int, w: int, pitch: int, stride: int, lanes: int) -> NDArray[np.uint16]:
    inside = np.zeros(stride, bool)
    inside[: h * pitch].reshape(h, pitch)[:, :w] = True
    bits = inside.reshape(-1, lanes) @ (1 << np.arange(lanes, dtype=np.int64))
    return bits.astype(np.uint16)
