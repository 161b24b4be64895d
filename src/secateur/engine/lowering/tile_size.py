"""How a map is cut into tiles: equally, or into tiles that are whole register tiles.

    cost(tiles) = sum over convolutions, tiles, register tiles of v vectors:   work (max(v, LEAST) + PANEL) / V

Every convolution cuts a tile into register tiles of its own, of V vectors at most. Short remainders cost both: a loop
with few vectors is limited by its other instructions, and each panel has a beginning and an end. 14 lines, for example,
are 5 + 5 + 4 for convolutions with V = 6, but 6 + 6 + 2 for those with V = 3.
"""

from collections.abc import Mapping

from secateur.engine.layout import split

# Lines of a tile at most: 96 pixels, whole vectors of every instruction set.
LONGEST = 6
# In vectors (Cascade Lake): what a position costs at least, and what a panel's beginning and end cost.
LEAST = 3.0
PANEL = 3.0


def tile_lines(lines: int, users: Mapping[int, float]) -> tuple[int, ...]:
    """Lines of each tile of a map.

    lines    of the map
    users    V -> multiply-adds of the convolutions with register tiles of V lines that read or write the map
    """
    whole, rest = divmod(lines, LONGEST)
    equal, full = tuple(split(lines, LONGEST)), (LONGEST,) * whole + (rest,) * (rest > 0)
    return min((equal, full), key=lambda tiles: _cost(tiles, users))


def _cost(tiles: tuple[int, ...], users: Mapping[int, float]) -> float:
    sizes = {most: [size for tile in tiles for size in split(tile, most)] for most in users}
    return sum(
        work / most * sum(max(size, LEAST * most / LONGEST) + PANEL * most / LONGEST for size in sizes[most])
        for most, work in users.items()
    )
