"""Listed: the levels that are given are all there are; every other layer stays dense.

The levels are those of `levels` in `plan_sparsity`, by name or glob; `levels_file.py` reads them from files. The
total is what the list adds up to, so that no target is needed; one that is given must agree.
"""

from secateur.sparsity.allocation_options import AllocationOptions
from secateur.sparsity.allocation_problem import Problem, allocations, dense_rules, own_totals
from secateur.sparsity.layers import Layer


@allocations.register("listed")
def listed(problem: Problem) -> list[float]:
    """Nothing is left to choose."""
    return [1.0] * len(problem.layers)


def _not_in_the_list(layer: Layer, options: AllocationOptions) -> str | None:
    return "not in the list of levels"


def _always(options: AllocationOptions) -> bool:
    return True


dense_rules["listed"] = _not_in_the_list
own_totals["listed"] = _always
