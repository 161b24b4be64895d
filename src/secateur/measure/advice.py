"""One line that says which technique pays here for this network, from what was measured and nothing else."""

from secateur.measure.clock import Ratio
from secateur.measure.speedup import Speedup, SpeedupTable


def advice(table: SpeedupTable, batch: int, threads: int) -> str:
    """A sentence or two about one batch and thread count.

    1. A runtime in which the compressed network is faster, beyond the noise, and faster than the best dense time of
       all runtimes: use it, with its gain.
    2. Otherwise every measured runtime ignores zeros: the file is smaller, but only a runtime that uses zeros (the
       engine of Secateur does) or fewer channels make it faster.
    3. Otherwise a runtime uses zeros and still gains nothing: run the dense network where it is fastest.
    4. Nothing was timed in both forms: no advice.
    """
    where = f"batch {batch}, {threads} thread{'s' if threads != 1 else ''}"
    here = [row for row in table.rows if (row.batch, row.threads) == (batch, threads)]
    compared = [(row, row.within) for row in here if row.within is not None]
    if not compared:
        return f"No advice ({where}): no runtime has timed both the dense and the compressed network."
    faster = [(row, within) for row, within in compared if _gains(row, within)]
    if faster:
        row, within = min(faster, key=lambda pair: pair[0].compressed_ms or float("inf"))
        return (
            f"Use {row.runtime} ({where}): the compressed network is {within.median:.2f}x as fast there, "
            f"{row.achieved:.2f}x of the best dense time ({row.best_dense}); "
            f"by compute {table.expected.compute:.2f}x were to be expected."
        )
    names = ", ".join(row.runtime for row, _ in compared)
    if all(row.ignores_zeros for row, _ in compared):
        return (
            f"Zeros buy no time in {names} ({where}), which ignore them; they make the file smaller. Measure the "
            "engine too (runtime secateur), which uses them; elsewhere only fewer channels or fewer bits save work."
        )
    best = next((row.best_dense for row, _ in compared if row.best_dense), None)
    return (
        f"Run the dense network{f' in {best}' if best else ''} ({where}): in {names} the compressed one is not faster "
        "than that beyond the noise."
    )


def _gains(row: Speedup, within: Ratio) -> bool:
    """Faster by itself beyond the noise, and than any dense network.

    A runtime that ignores zeros owes a difference to something else.
    """
    faster = not within.no_difference and within.median > 1.0
    return not row.ignores_zeros and faster and (row.achieved or 0.0) > 1.0
