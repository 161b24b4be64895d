"""Reordering the channels of a group everywhere: the network computes the same.

    new channel i = old channel order[i]     in filters, biases, norms, depthwise filters and all consumers

What 2:4 permutation and the rearrangement of 1xN blocks are applied with (ALGORITHMS.md B4.5, B5).
"""

from collections.abc import Sequence

import numpy as np
from torch import nn
from torch.optim import Optimizer

from secateur.channels.groups import ChannelGroup, IntArray
from secateur.channels.tensors import cut_, named, tensors_of
from secateur.errors import SparsityError


def permute_group_(
    model: nn.Module, group: ChannelGroup, order: Sequence[int] | IntArray, optimizer: Optimizer | None = None
) -> None:
    """Put the channels of one group of `model` into another order, in place.

    order     (group.size,) each unit once; a unit stays in its segment, where the group has several
    raises    SparsityError  the group is frozen, or `order` is no such order
    """
    new = np.asarray(order, dtype=np.int64)
    if group.frozen is not None:
        raise SparsityError(f"{group.name}: its channels keep their order: {group.frozen}.")
    if not np.array_equal(np.sort(new), np.arange(group.size)):
        raise SparsityError(f"{group.name}: an order must name each of its {group.size} channels once.")
    if not np.array_equal(group.segment[new], group.segment):
        raise SparsityError(
            f"{group.name}: its channels lie in {group.segments} segments (grouped convolutions); "
            "an order must keep each channel in its segment."
        )
    tensors = tensors_of(model)
    for member in group.members:
        index = np.arange(member.length, dtype=np.int64)
        index[member.positions] = member.positions[new]
        cut_(named(tensors, member.tensor), member.axis, index, member.groups, optimizer)
