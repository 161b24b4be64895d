"""Rounds in which every stripe meets another one, all pairs once in a sweep: a tournament's table.

    one team sits still, the others move on by one seat; seats 0 .. h - 1 play against seats 2h - 1 .. h

An odd stripe out rests for a round. Own use of the circle method (Kirkman 1847).
"""

from collections.abc import Iterator

import numpy as np

from secateur.sparsity.permutation.stripes import IntArray


def rounds_of_pairs(stripes: int, random: np.random.Generator) -> Iterator[IntArray]:
    """(pairs, 2) of stripes that share none, for each round of one sweep; the seats are drawn."""
    seats = random.permutation(stripes)
    if stripes % 2:
        seats = np.append(seats, -1)
    half = len(seats) // 2
    for _ in range(len(seats) - 1):
        pairs = np.stack([seats[:half], seats[half:][::-1]], axis=1)
        yield pairs[(pairs >= 0).all(axis=1)]
        seats = np.concatenate([seats[:1], np.roll(seats[1:], 1)])
