"""Biases that take the shift of the mean, without Gram matrices: the network's own layers run on the dense inputs.

    b' = b + E[dense layer(x)] - E[layer(x)]          x: what the dense network gives the layer, over all images

The same as bias correction with dense inputs (`bias_correction.py`), for networks whose weights behind the masks must
stay, and for layers so wide that a Gram matrix would cost more than the layers themselves.

Source: MSBench; by linearity the same as the mean of its output images.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur.errors import PosttrainingError
from secateur.sparsity import stored_weight, unwrapped
from secateur.sparsity.census import evaluating
from secateur.sparsity.layers import weighted_modules
from secateur.sparsity.norms import norm_modules


@torch.no_grad()
def shift_means_(
    network: nn.Module,
    dense: nn.Module,
    batches: Callable[[], Iterable[Tensor]],
    names: Iterable[str],
    *,
    norms: dict[str, str] | None = None,
) -> dict[str, Tensor]:
    """Give the named layers of `network` the mean outputs that they have in the dense one.

    batches    makes preprocessed images; one pass is made
    names      of layers that both networks have; one that no image reaches keeps its bias
    norms      layer without a bias -> batch norm that alone gets its output: its running mean takes the shift.
               Without one, the layer gains a bias
    returns    layer -> (C_out,) the shift
    raises     PosttrainingError  no images, or a layer that one of the networks does not have
    """
    network, dense = unwrapped(network), unwrapped(dense)
    own, theirs = weighted_modules(network), weighted_modules(dense)
    wanted = list(names)
    for name in wanted:
        if name not in own or name not in theirs:
            raise PosttrainingError(f"{name}: both networks must have this layer.")
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def leaving(name: str) -> Any:
        module = own[name]
        axis = -1 if isinstance(module, nn.Linear) else 1

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            like = stored_weight(module)
            missing = output.double() - module(inputs[0].to(like.device, like.dtype)).to(output.device).double()
            rows = missing.movedim(axis, -1).flatten(0, -2)
            sums[name] = sums.get(name, 0.0) + rows.sum(0)
            counts[name] = counts.get(name, 0) + len(rows)

        return hook

    handles = [theirs[name].register_forward_hook(leaving(name)) for name in wanted]
    device = next(dense.parameters()).device
    try:
        with evaluating(dense), evaluating(network):
            for images in batches():
                dense(images.to(device))
    finally:
        for handle in handles:
            handle.remove()
    if wanted and not counts:
        raise PosttrainingError("means are measured on images, and there are none.")
    behind = norm_modules(network)
    found = {name: sums[name] / counts[name] for name in wanted if name in counts}
    for name, shift in found.items():
        module, norm = own[name], behind.get((norms or {}).get(name, ""))
        bias = cast(nn.Parameter | None, module.bias)
        like = stored_weight(module)
        if bias is not None:
            bias.add_(shift.to(bias))
        elif norm is not None:
            mean = cast(Tensor, norm.running_mean)
            mean.sub_(shift.to(mean))
        else:
            module.bias = nn.Parameter(shift.to(like), requires_grad=like.requires_grad)
    return found
