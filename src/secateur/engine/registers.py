"""Which register tiles fit.

convolution      R V + V + W <= registers       accumulators, inputs, broadcast weights
matrix product   R J + J + 1 <= registers       accumulators, weights, one broadcast input

W is 1 where a weight is broadcast as it is used. AArch64 loads weights in pairs and ahead of their use. Where no
instruction multiplies quads of 8-bit integers, inputs and weights are taken apart: R V + 2 V + 3.
"""

from secateur.engine.emit.integers import has_dot
from secateur.engine.target import Target

# Longer tiles than this cost more in cache than they save in loads (ENGINE.md 2.5).
MOST_VECTORS = 14

# A row of the tile of a matrix product needs an address; x86-64 has 15 general registers.
MOST_ROWS = 9
MOST_SLAB = 8
# Inputs are loaded ahead there.
MOST_SUMS_OF_NEON = 24
LATENCY = 4
L2_BYTES_PER_CYCLE = 24


def most_vectors(rows: int, target: Target, *, quads: bool = False) -> int:
    """The largest V for R rows; 0 when not even one vector fits.

    quads    of 8-bit integers are multiplied
    """
    if quads and not has_dot(target):
        return (target.registers - 3) // (rows + 2)
    if rows == 1:
        return min(target.registers - 2, MOST_VECTORS)
    weights = 1 if target.isa != "neon" else 4 if rows < 8 else 6
    return min((target.registers - weights) // (rows + 1), MOST_VECTORS)


def product_tile(rows: int, outputs: int, threads: int, target: Target) -> tuple[int, int]:
    """(J, R) with the least predicted cycles: vectors of outputs and rows of a tile of a dense matrix product."""

    def cycles(slab: int, together: int) -> float:
        slabs, tiles = -(-outputs // (slab * target.lanes)), -(-rows // together)
        height = rows / tiles
        arithmetic, loads = slab * height / 2, (slab + height) / 2
        step = max(arithmetic, loads, LATENCY, slab * target.lanes * 4 / L2_BYTES_PER_CYCLE)
        return -(-slabs * tiles // threads) * step

    fitting = [
        (slab, together)
        for slab in range(1, MOST_SLAB + 1)
        for together in range(1, min(rows, MOST_ROWS) + 1)
        if slab * together + slab + 1 <= target.registers
        and (target.isa != "neon" or slab * together <= MOST_SUMS_OF_NEON)
    ]
    # Among equals the one that reads each weight for more rows: 3x9 takes 2 to 20 % less time than 4x6.
    return min(fitting, key=lambda tile: (round(cycles(*tile), 3), -tile[0] * tile[1], -tile[1]))
