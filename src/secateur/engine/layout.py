"""Where the elements of a tensor lie.

    element (n, c, y, x) of a tensor in planes:  offset + n image_stride + c plane_stride + y pitch + x

Every channel is a plane. A plane's rows are `pitch` elements apart, with pitch - w zero elements to the right of each
row, which are the left padding of the next row too ("zero-pitched" planes, ENGINE.md 3.3 Z). At least
plane_stride - h pitch further zero elements follow the last row; they are the padding above the next plane. So a
convolution reads its padding from memory and contains no code for borders.
"""

from dataclasses import dataclass
from math import prod

# Planes are aligned for the widest vectors (16 floats), so one layout serves every instruction set.
ALIGN = 16
SMALL_PLANE = 8


@dataclass(frozen=True)
class Planes:
    """A float32 tensor (n, c, h, w) as planes in the arena; strides in elements.

    pitch         from one row to the next
    plane_stride  from one channel to the next, a multiple of ALIGN
    image_stride  from one image to the next
    """

    n: int
    c: int
    h: int
    w: int
    pitch: int
    plane_stride: int
    image_stride: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Logical shape."""
        return (self.n, self.c, self.h, self.w)

    @property
    def pad(self) -> int:
        """Zero columns to the right of each row."""
        return self.pitch - self.w

    @property
    def vectors(self) -> int:
        """ALIGN-element blocks that cover all rows of a plane (the last row without its padding)."""
        return -(-((self.h - 1) * self.pitch + self.w) // ALIGN)

    @property
    def channel_stride(self) -> int:
        """Elements from one channel to the next."""
        return self.plane_stride

    @property
    def size(self) -> int:
        """Elements from the first to the end of the last plane."""
        return (self.n - 1) * self.image_stride + self.c * self.plane_stride

    def channels(self, count: int) -> "Planes":
        """The layout of `count` neighbouring channels inside this tensor."""
        return Planes(self.n, count, self.h, self.w, self.pitch, self.plane_stride, self.image_stride)


@dataclass(frozen=True)
class Flat:
    """A tensor of any rank and type, elements one after the other (C order)."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Picked:
    """Channels of a tensor in planes, in any order: a view for those who read planes one by one.

    whole      layout of that tensor
    channels   its channels, in the order of this one's
    """

    whole: Planes
    channels: tuple[int, ...]

    @property
    def n(self) -> int:
        """Images."""
        return self.whole.n

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Logical shape."""
        return (self.whole.n, len(self.channels), self.whole.h, self.whole.w)

    @property
    def size(self) -> int:
        """Elements from the first to the end of the last plane of the whole tensor."""
        return self.whole.size


@dataclass(frozen=True)
class Tiled:
    """A float32 tensor (n, c, h, w) cut into tiles of pixels: all channels of a tile, then those of the next tile.

        element (n, c, y, x):   n image_stride + t tile_stride + c tile + p - begins[t]      p = y pitch + x, in tile t

    What a convolution without neighbours needs for a tile is one block of memory. Processors fetch that ahead by
    themselves, while the same lines of many planes come one by one.

    pitch    elements from one row to the next, as in planes; those behind a row are zero
    lines    ALIGN-element blocks of each tile
    """

    n: int
    c: int
    h: int
    w: int
    pitch: int
    lines: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Logical shape."""
        return (self.n, self.c, self.h, self.w)

    @property
    def tile(self) -> int:
        """Elements of the largest tile."""
        return max(self.lines) * ALIGN

    @property
    def channel_stride(self) -> int:
        """Elements from one channel of a tile to the next."""
        return self.tile

    @property
    def tile_stride(self) -> int:
        """Elements from one tile to the next."""
        return self.c * self.tile

    @property
    def image_stride(self) -> int:
        """Elements from one image to the next."""
        return len(self.lines) * self.tile_stride

    @property
    def size(self) -> int:
        """Elements of all images."""
        return self.n * self.image_stride


Layout = Planes | Picked | Tiled | Flat


def split(count: int, most: int) -> list[int]:
    """Sizes of the parts of `count` things, each at most `most`, as equal as can be, large ones first."""
    parts = -(-count // most)
    small, large = divmod(count, parts)
    return [small + 1] * large + [small] * (parts - large)


def planes(shape: tuple[int, int, int, int], pad: int = 0, rows: int | None = None) -> Planes:
    """The layout of a tensor (n, c, h, w) with `pad` zero columns per row.

    rows    zero rows between planes; as many as columns when not given
    """
    n, c, h, w = shape
    pitch = w + pad
    lines = -(-(h + (pad if rows is None else rows)) * pitch // ALIGN)
    # A tile reads a few lines of every plane. An odd distance spreads them over all sets of a cache; small planes are
    # read whole.
    if lines > SMALL_PLANE:
        lines |= 1
    return Planes(n, c, h, w, pitch, lines * ALIGN, c * lines * ALIGN)
