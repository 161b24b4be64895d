"""Ends of residual branches: layers whose output, behind its norm, is added to something else.

    a   = branch + shortcut,    branch = norm(layer(x))

What the shortcut has become in the pruned network, the layer at the end of the branch can make good; its target is
the dense output plus (dense shortcut - pruned shortcut). Source: He, Zhang & Sun 2017, 3.3; PocketFlow.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

ADDITIONS = ("add", "add_")


class Additions(TorchDispatchMode):
    """Sees additions of whole tensors while a network runs, and tells their operands before any is overwritten."""

    def __init__(self, seen: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ADDITIONS and not kwargs and len(args) == 2:
            first, second = args
            if isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape:
                self._seen(first, second)
        return func(*args, **(kwargs or {}))


@contextmanager
def outputs_of(modules: Mapping[str, nn.Module], given: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tells the outputs of modules, by the names that they have in `modules`, as long as the context lasts."""

    def hook(name: str) -> Any:
        def leaving(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                given(name, output)

        return leaving

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def branch_ends(
    network: nn.Module, ends: Mapping[str, nn.Module], image: Tensor, place: Mapping[str, int]
) -> frozenset[str]:
    """Layers that make good the error of a shortcut: of two layers that meet in a sum the one that is fitted later.

    ends     layer -> the module whose output is the layer's, behind its norm
    place    layer -> when it is fitted; a layer that never is, is no end
    """
    made: dict[int, tuple[str, Tensor]] = {}
    sums: list[tuple[str | None, str | None]] = []

    def given(name: str, output: Tensor) -> None:
        # The tensor is kept, so that its id stays its own.
        made[id(output)] = (name, output)

    def seen(*operands: Tensor) -> None:
        first, second = (made.get(id(operand), (None, operand))[0] for operand in operands)
        sums.append((first, second))

    with torch.no_grad(), outputs_of(ends, given), Additions(seen):
        network(image)
    found: set[str] = set()
    for pair in sums:
        fitted = [name for name in pair if name is not None and name in place]
        if fitted and pair[0] != pair[1]:
            found.add(max(fitted, key=lambda name: place[name]))
    return frozenset(found)
