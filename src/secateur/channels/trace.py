"""Dependency groups of a torch network, found by running it once.

    every ATen operator that runs gives its results ids by its rule (secateur.channels.rules);
    an operator without a rule freezes the channels that reach it, and is named as the reason

Source: our own design. Torch-Pruning finds groups in the autograd graph; it has no ONNX side, does not follow channel
shuffles or permutations, and stores whole modules, so here it only serves as an oracle in the tests.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import secateur.channels.rules  # noqa: F401  (registers the rules)
from secateur.channels.groups import ChannelGroups
from secateur.channels.side_table import Call, SideTable, lined, operator_rules
from secateur.errors import ModelError
from secateur.sparsity import Mask, fold_parametrizations_, unwrapped

DEFAULT_INPUT = (3, 224, 224)


def channel_groups(model: nn.Module, input_size: Sequence[int] | None = None) -> ChannelGroups:
    """Which channels of `model` go together, and which must stay, with the reason.

    input_size    (channels, height, width) of one image, or the shape of any other input without its batch; by
                  default that of `model.preprocessing`, else 3x224x224
    raises        ModelError  the network does not run on such an input
    """
    network = plain_copy(model)
    shape = input_shape(model, input_size)
    table = SideTable(network)
    parameter = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    image = torch.zeros(1, *shape, dtype=parameter.dtype)
    inputs = lined(table.ids.new(shape[0]), 1, image.ndim)
    table.ids.freeze(inputs, "input of the network")
    table.set(image, np.broadcast_to(inputs, tuple(image.shape)))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Watch(table):
            result = network(image)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ModelError(
            f"{type(network).__name__} does not run on an input of shape 1x{'x'.join(map(str, shape))}: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}."
        ) from error
    for tensor in tensors_in(result):
        table.fix(tensor, "output of the network")
    return table.ids.groups()


def tensors_in(result: Any) -> list[Tensor]:
    """The tensors that a network returned. raises ModelError for a container that could hide some."""
    leaves = [leaf for leaf in tree_leaves(result) if leaf is not None]
    for leaf in leaves:
        if not isinstance(leaf, Tensor | int | float | str):
            raise ModelError(
                f"the network returns a {type(leaf).__name__}; its channels can be followed to tensors, and to tensors "
                "in tuples, lists and dictionaries."
            )
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def input_shape(model: nn.Module, given: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of one input of `model` without its batch."""
    own: Sequence[int] | None = getattr(getattr(unwrapped(model), "preprocessing", None), "input_size", None)
    shape = tuple(given or own or DEFAULT_INPUT)
    if not shape or min(shape) < 1:
        raise ModelError(f"an input size must be of whole numbers from 1, such as 3x224x224, not {shape}.")
    return shape


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode; masks are folded, other parametrizations stay."""
    network = copy.deepcopy(unwrapped(model)).cpu().eval()
    for module in network.modules():
        if parametrize.is_parametrized(module) and only_masks(module):
            fold_parametrizations_(module)
    return network.requires_grad_(False)


def only_masks(module: nn.Module) -> bool:
    """Whether every parametrization of a module is a mask."""
    chains = cast(nn.ModuleDict, module.parametrizations)
    return all(isinstance(step, Mask) for chain in chains.values() for step in chain.children())


def follow(table: SideTable, function: Any, args: Sequence[Any], kwargs: dict[str, Any] | None, out: Any) -> Call:
    """Apply the rule of an operator that ran; one without a rule freezes what reached it."""
    call = Call(function.overloadpacket.__name__.removesuffix("_"), function, tuple(args), dict(kwargs or {}), out)
    if any(table.knows(tensor) for tensor in call.tensors()):
        rule = operator_rules.get(call.name)
        if rule is not None:
            rule(table, call)
        else:
            for tensor in call.tensors():
                table.fix(tensor, f"operator {call.name}")
    return call


class _Watch(TorchDispatchMode):
    """Follows every operator that runs."""

    def __init__(self, table: SideTable) -> None:
        super().__init__()
        self._table = table

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        follow(self._table, func, args, kwargs, out)
        return out
