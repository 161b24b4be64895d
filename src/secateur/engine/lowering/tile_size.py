"""How a map is cut into tiles: equally, or into tiles that are whole register tiles.

    cost(tiles) = sum over convolutions, tiles, register tiles of v vectors:   work (max(v, LEAST) + PANEL) / V

Every convolution cuts a tile into register tiles of its own, of V vectors at most. Short remainders cost both: a loop
with few vectors is limited by its other instructions, and each panel has a beginning and an end. 14 lines, for example,
are 5 + 5 + 4 for convolutions with V = 6, but 6 + 6 + 2 for those with V = 3. Kernels on planes of bytes compute whole
register tiles, however many lines are left: with V = 4 they want 4 + 4 + 4 + 2.
"""

from collections.abc import Mapping
from typing import NamedTuple

from secateur.engine.layout import split

# Lines of a tile at most: 96 pixels, whole vectors of every instruction set.
LONGEST = 6
# In vectors (Cascade Lake): what a position costs at least, and what a panel's beginning and end cost.
LEAST = 3.0
PANEL = 3.0


class RegisterTile(NamedTuple):
    """What a convolution computes at once.

    lines    V, at most
    whole    V lines are computed where fewer are left
    """

    lines: int
    whole: bool = False


def tile_lines(lines: int, users: Mapping[RegisterTile, float]) -> tuple[int, ...]:
    """Lines of each tile of a map.

    lines    of the map
    users    register tile -> multiply-adds of the convolutions with such tiles that read or write the map
    """
    lengths = [LONGEST, *(tile.lines for tile in users if tile.whole and tile.lines < LONGEST)]
    full = [(most,) * (lines // most) + (lines % most,) * (lines % most > 0) for most in lengths]
    return min((tuple(split(lines, LONGEST)), *full), key=lambda tiles: _cost(tiles, users))


def _cost(tiles: tuple[int, ...], users: Mapping[RegisterTile, float]) -> float:
    total = 0.0
    for (most, whole), work in users.items():
        least = float(most) if whole else LEAST * most / LONGEST
        sizes = [size for tile in tiles for size in split(tile, most)]
        total += work / most * sum(max(size, least) + PANEL * most / LONGEST for size in sizes)
    return total
