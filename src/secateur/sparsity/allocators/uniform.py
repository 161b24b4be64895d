"""Uniform: the same level for every layer; for convolutions only; or the levels that a narrower network stands for.

    uniform               s_l = s
    structured_uniform    convolutions s, linear layers 0
    from a small model    s_l = 1 - filters of the small network's layer / filters of the layer

Source: MSBench (structured: its filter pruning; small: its comparison with narrower networks).
"""

from collections.abc import Sequence

from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity.allocation_options import AllocationOptions
from secateur.sparsity.allocation_problem import Problem, allocations, dense_rules, fill
from secateur.sparsity.layers import Layer


@allocations.register("uniform", "structured_uniform")
def uniform(problem: Problem) -> list[float]:
    """The same density everywhere."""
    return fill([1.0] * len(problem.layers), problem)


def _linear_stays(layer: Layer, options: AllocationOptions) -> str | None:
    return "structured_uniform prunes convolutions only" if layer.kind == "linear" else None


dense_rules["structured_uniform"] = _linear_stays


def levels_of_small(layers: Sequence[Layer], small: Sequence[Layer]) -> dict[str, float]:
    """Levels at which each layer loses the share of filters that the same layer of a narrower network lacks.

    small     layers of the narrower network; those that are as wide, such as the classifier, get no level
    raises    SparsityError  a layer that the narrower network does not have, or that is wider there
    """
    filters = {layer.name: layer.filter_shape[0] for layer in small}
    levels: dict[str, float] = {}
    for layer in layers:
        wide = layer.filter_shape[0]
        if layer.name not in filters:
            raise SparsityError(f"the small network does not fit: {unknown('layer', layer.name, filters)}")
        if filters[layer.name] > wide:
            raise SparsityError(
                f"{layer.name}: the small network has {filters[layer.name]} filters there, over {wide}."
            )
        if filters[layer.name] < wide:
            levels[layer.name] = 1.0 - filters[layer.name] / wide
    return levels
