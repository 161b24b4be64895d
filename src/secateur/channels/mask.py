"""Masking channels: the network keeps its shapes and computes what the smaller one would.

    every entry that a plan removes becomes zero: filters, biases, scale and shift of norms, what consumers read

A removed filter alone leaves act(shift) behind in the channel (ALGORITHMS.md B8, rule 1); with the norm's shift and
the consumers zero as well, the masked network equals the thinned one exactly.
"""

import numpy as np
import torch
from torch import Tensor, nn

from secateur.channels.groups import IntArray
from secateur.channels.plan import RemovalPlan
from secateur.channels.remove import check_fits, shift_
from secateur.channels.tensors import named, tensors_of
from secateur.sparsity import attach_masks_, layers_of, masks, set_mask_, unwrapped


@torch.no_grad()
def mask_channels_(model: nn.Module, plan: RemovalPlan) -> None:
    """Zero what `plan` would remove, in place: weights of layers by masks that training keeps, the rest by zeros.

    Zeros of biases and norms are zeros at this moment; an optimiser may move them. Running means stay.
    raises    SparsityError  the plan was made for another network; nothing is changed then
    """
    tensors = tensors_of(model)
    check_fits(tensors, plan)
    shift_(model, plan, cut=False)
    layers = {name: layer.name for layer in layers_of(model) for name in (layer.name, *layer.shared)}
    buffers = {name for name, _ in unwrapped(model).named_buffers()}
    masked: dict[str, Tensor] = {}
    for cut in plan.cuts:
        layer = layers.get(cut.tensor.removesuffix(".weight")) if cut.tensor.endswith(".weight") else None
        found = named(tensors, cut.tensor)[0]
        if layer is None:
            if cut.tensor not in buffers or cut.role == "parameter":
                found.masked_fill_(~_kept(found, cut.axis, cut.removed, cut.groups), 0.0)
            continue
        kept = _kept(found, cut.axis, cut.removed, cut.groups)
        masked[layer] = masked[layer] & kept if layer in masked else kept
    attach_masks_(model, masked)
    before = masks(model)
    modules = dict(unwrapped(model).named_modules())
    for layer, mask in masked.items():
        set_mask_(modules[layer], before[layer] & mask)


def _kept(tensor: Tensor, axis: int, removed: IntArray, groups: int) -> Tensor:
    """A boolean tensor of the shape of `tensor`, False where an entry of the axis is removed."""
    kept = np.ones(tensor.shape[axis] * groups, dtype=bool)
    kept[removed] = False
    along = torch.from_numpy(kept).to(tensor.device)
    shape = [1] * tensor.ndim
    if groups == 1:
        shape[axis] = -1
        return along.reshape(shape).expand(tensor.shape).clone()
    shape[0], shape[axis] = tensor.shape[0], tensor.shape[axis]
    rows = along.reshape(groups, -1).repeat_interleave(tensor.shape[0] // groups, dim=0)
    return rows.reshape(shape).expand(tensor.shape).clone()
