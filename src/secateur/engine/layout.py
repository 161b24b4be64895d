"""Where the elements of a tensor lie.

    element (n, c, y, x) of a tensor in planes:  offset + n image_stride + c plane_stride + y pitch + x

Every channel is a plane. A plane's rows are `pitch` elements apart, with pitch - w zero elements to the right of each
row, which are the left padding of the next row too ("zero-pitched" planes, ENGINE.md 3.3 Z). At least
plane_stride - h pitch further zero elements follow the last row; they are the padding above the next plane. So a
convolution reads its padding from memory and contains no code for borders.

Integers of 8 bits lie in quads: four neighbouring channels of a pixel are one element of 4 bytes, and the quads of a
tensor are its planes. What float32 maps do, these do too: copies, pitches, tiles and proofs speak of 4-byte elements.
So do the pairs of bf16 numbers that a layer makes of float32 maps for itself: two channels of a pixel are one element.
"""

from dataclasses import dataclass, replace
from math import prod

# Planes are aligned for the widest vectors (16 floats), so one layout serves every instruction set.
ALIGN = 16
SMALL_PLANE = 8


def next_multiple(value: int, multiple: int) -> int:
    """The least multiple that is not less than a value."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Planes:
    """A tensor (n, c, h, w) of 4-byte elements as planes in the arena; strides in elements.

    pitch         from one row to the next
    plane_stride  from one channel to the next, a multiple of ALIGN
    image_stride  from one image to the next
    fill          each byte of the elements of padding, which are called zeros: 0, but for quads with a zero point
    """

    n: int
    c: int
    h: int
    w: int
    pitch: int
    plane_stride: int
    image_stride: int
    fill: int = 0

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
        return replace(self, c=count)


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
    """A tensor (n, c, h, w) of 4-byte elements in tiles of pixels: all channels of a tile, then those of the next one.

        element (n, c, y, x):   n image_stride + t tile_stride + c tile + p - begins[t]      p = y pitch + x, in tile t

    What a convolution without neighbours needs for a tile is one block of memory. Processors fetch that ahead by
    themselves, while the same lines of many planes come one by one.

    pitch    elements from one row to the next, as in planes; those behind a row are zero
    lines    ALIGN-element blocks of each tile
    fill     each byte of the elements that are zero
    """

    n: int
    c: int
    h: int
    w: int
    pitch: int
    lines: tuple[int, ...]
    fill: int = 0

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


@dataclass(frozen=True)
class Quads:
    """A tensor (n, c, h, w) of 8-bit integers, four neighbouring channels of a pixel in one element of 4 bytes.

        byte of element (n, c, y, x):   4 words(n, c // 4, y, x) + c % 4

    In memory all integers are unsigned: those of int8 are stored plus 128 (`stored_zero`).

    words    where the 4-byte elements lie: a tensor (n, ceil(c / 4), h, w)
    c        channels
    """

    words: Planes | Tiled
    c: int

    @property
    def fill(self) -> int:
        """The byte that stands for 0, 0 to 255, in all padding; channels that the last quad lacks hold anything."""
        return self.words.fill

    @property
    def n(self) -> int:
        """Images."""
        return self.words.n

    @property
    def h(self) -> int:
        """Rows."""
        return self.words.h

    @property
    def w(self) -> int:
        """Columns."""
        return self.words.w

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Logical shape."""
        return (self.words.n, self.c, self.words.h, self.words.w)

    @property
    def size(self) -> int:
        """4-byte elements from the first to the end of the last plane."""
        return self.words.size

    def channels(self, count: int) -> "Quads":
        """The layout of `count` neighbouring channels inside this tensor, from the beginning of a quad on."""
        assert isinstance(self.words, Planes)
        return Quads(self.words.channels(quads_of(count)), count)


Layout = Planes | Picked | Tiled | Quads | Flat

# Integer types that lie in quads.
INTEGERS = ("uint8", "int8")


def quads_of(channels: int) -> int:
    """Quads that hold so many channels."""
    return -(-channels // 4)


def pairs_of(channels: int) -> int:
    """Pairs that hold so many channels."""
    return -(-channels // 2)


def stored_zero(zero: int, dtype: str) -> int:
    """The byte that a zero point, or any integer of this type (uint8, int8), is in memory."""
    return zero + 128 if dtype == "int8" else zero


def fill_word(fill: int) -> int:
    """The 4-byte element of four such bytes, as a signed number of 32 bits."""
    word = fill * 0x01010101
    return word - (1 << 32) if word >= 1 << 31 else word


def split(count: int, most: int) -> list[int]:
    """Sizes of the parts of `count` things, each at most `most`, as equal as can be, large ones first."""
    parts = -(-count // most)
    small, large = divmod(count, parts)
    return [small + 1] * large + [small] * (parts - large)


def planes(shape: tuple[int, int, int, int], pad: int = 0, rows: int | None = None, fill: int = 0) -> Planes:
    """The layout of a tensor (n, c, h, w) with `pad` zero columns per row.

    rows    zero rows between planes; as many as columns when not given
    fill    each byte of what is called zero
    """
    n, c, h, w = shape
    pitch = w + pad
    lines = -(-(h + (pad if rows is None else rows)) * pitch // ALIGN)
    # A tile reads a few lines of every plane. An odd distance spreads them over all sets of a cache; small planes are
    # read whole.
    if lines > SMALL_PLANE:
        lines |= 1
    return Planes(n, c, h, w, pitch, lines * ALIGN, c * lines * ALIGN, fill)


def quads(shape: tuple[int, int, int, int], fill: int, pad: int = 0, rows: int | None = None) -> Quads:
    """The layout of 8-bit integers (n, c, h, w): arguments as for `planes`, and the byte that stands for 0."""
    n, c, h, w = shape
    return Quads(planes((n, quads_of(c), h, w), pad, rows, fill), c)
