"""Erdős-Rényi: large layers get sparser than small ones.

    density_l = eps p_l, at most 1
    eps = [ sum_{not dense} (n_l - s n_l) - sum_{dense} s n_l ] / sum_{not dense} p_l n_l

    erk    p_l = (sum of shape_l / product of shape_l)^power        1 in MSBench's tool, 0.5 in its library function
    er     p_l = ((C_in + C_out) / (C_in C_out))^power              without the kernel's sides

Marking layers dense while eps * max p_l > 1, as the sources write it, is clipping densities at 1. (They round every
s n_l down first; here whole groups are counted afterwards, so that all allocations mean the same.)

Source: Mocanu et al. 2018; Evci et al. 2020 (RigL, section 3). Clipping from below at the cap is our own design.
"""

from math import prod

from secateur.sparsity.allocation_problem import Problem, allocations, fill


@allocations.register("erk")
def erk(problem: Problem) -> list[float]:
    """Small and narrow layers stay denser; the kernel counts as width."""
    power = problem.options.power
    return fill([(sum(layer.shape) / prod(layer.shape)) ** power for layer in problem.layers], problem)


@allocations.register("er")
def er(problem: Problem) -> list[float]:
    """Small and narrow layers stay denser, whatever the kernel."""
    power = problem.options.power
    return fill([(sum(layer.shape[:2]) / prod(layer.shape[:2])) ** power for layer in problem.layers], problem)
