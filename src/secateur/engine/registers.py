"""Which register tiles fit.

R V + V + 1 <= registers       accumulators, inputs, one broadcast weight
"""

from secateur.engine.target import Target

# Longer tiles than this cost more in cache than they save in loads (ENGINE.md 2.5).
MOST_VECTORS = 14


def most_vectors(rows: int, target: Target) -> int:
    """The largest V for R rows; 0 when not even one vector fits."""
    if rows == 1:
        return min(target.registers - 2, MOST_VECTORS)
    return min((target.registers - 1) // (rows + 1), MOST_VECTORS)
