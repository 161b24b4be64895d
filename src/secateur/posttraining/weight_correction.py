"""Weight correction: the weights of every masked filter get the mean and variance of the dense ones.

    exact    kept' = a kept + b      a = sqrt((var + mean^2) / rho - (mean / rho)^2) / sd_k      b = mean / rho - a m_k
    msb      w'    = m (r w + mean - mean(r m w))         r = sd / (sd(m w) + 1e-9)

rho: share of kept weights; mean, var, sd of the dense filter; m_k, sd_k of the kept weights; deviations divide by n.
In the exact form (our own design) both moments of the masked filter equal those of the dense one; where the root is not
real, or all kept weights are equal, the filter stays as it is. In MSBench's form the mean is matched before the mask
is applied again, so it is not met.

Source: MSBench (sparse reconstruction); after Banner et al. 2019.
"""

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from secateur.errors import PosttrainingError
from secateur.registry import unknown
from secateur.sparsity import as_stored, filters_first, layers_of, masks, stored_weight
from secateur.sparsity.layers import weighted_modules

Form = Literal["exact", "msb"]


@torch.no_grad()
def correct_weights(weight: Tensor, mask: Tensor, form: Form = "exact") -> Tensor:
    """The masked weight of a layer with corrected moments.

    weight     (C_out, ...) dense, filter first
    mask       the same shape, boolean, True = kept
    returns    float32, exact zeros where the mask is not True
    raises     PosttrainingError  a mask of another shape, a form that does not exist
    """
    return rescaled(weight, mask, form).masked_fill(~mask, 0.0)


@torch.no_grad()
def rescaled(weight: Tensor, mask: Tensor, form: Form = "exact") -> Tensor:
    """The same scale and shift for all weights of a filter, removed ones too: for masks that are chosen again."""
    if form not in get_args(Form):
        raise PosttrainingError(unknown("form of weight correction", form, get_args(Form)))
    if mask.shape != weight.shape or mask.dtype != torch.bool:
        raise PosttrainingError(
            f"the mask of a weight of shape {tuple(weight.shape)} must be boolean and of that shape, "
            f"not {mask.dtype} of shape {tuple(mask.shape)}."
        )
    rows, kept = weight.flatten(1).double(), mask.flatten(1)
    return (_exact if form == "exact" else _msb)(rows, kept).reshape(weight.shape).float()


@torch.no_grad()
def correct_weights_(model: nn.Module, names: Iterable[str], form: Form = "exact") -> None:
    """Correct the named layers of a network, which have masks; what is behind the masks is moved alike.

    raises    PosttrainingError  a layer without a mask, a form that does not exist
    """
    modules, kept = weighted_modules(model), masks(model)
    for name in names:
        if name not in kept:
            raise PosttrainingError(f"{name}: has no mask, so there is nothing to correct.")
        layer, stored = next(each for each in layers_of(model) if each.name == name), stored_weight(modules[name])
        weight, mask = (filters_first(found, layer.kind, layer.groups) for found in (stored, kept[name]))
        stored.copy_(as_stored(rescaled(weight, mask, form), layer.kind, layer.groups))


def _exact(rows: Tensor, kept: Tensor) -> Tensor:
    mean, square = rows.mean(1), rows.square().mean(1)
    count = kept.sum(1).double()
    share, safe = count / rows.shape[1], count.clamp(min=1.0)
    left = rows.masked_fill(~kept, 0.0)
    kept_mean = left.sum(1) / safe
    kept_variance = ((rows - kept_mean[:, None]).square().masked_fill(~kept, 0.0)).sum(1) / safe
    share = share.clamp(min=1.0 / rows.shape[1])
    inside = square / share - (mean / share).square()
    possible = (inside >= 0.0) & (kept_variance > 0.0) & (count > 0)
    scale = (inside.clamp(min=0.0) / torch.where(possible, kept_variance, 1.0)).sqrt()
    shift = mean / share - scale * kept_mean
    return torch.where(possible[:, None], scale[:, None] * rows + shift[:, None], rows)


def _msb(rows: Tensor, kept: Tensor) -> Tensor:
    left = rows.masked_fill(~kept, 0.0)
    ratio = rows.std(1, correction=0) / (left.std(1, correction=0) + 1e-9)
    shift = rows.mean(1) - ratio * left.mean(1)
    return ratio[:, None] * rows + shift[:, None]
