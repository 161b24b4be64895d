"""The memory layout in which networks compute: channels last, unless one of them needs its maps contiguous.

    x = relu(conv(x)).view(-1, 16 * 5 * 5)        is an error where the maps of x lie channels last

Convolutions are quicker in channels-last layout, but code like this line was written for the other one. Whether a
network computes in a layout is found by letting it. Our own design.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType]

from secateur.sparsity.census import evaluating
from secateur.sparsity.layers import unwrapped


def layout_for(networks: Iterable[nn.Module], images: Tensor, *, weights: bool = True) -> torch.memory_format:
    """`torch.channels_last` where all of `networks` can compute in it, else `torch.contiguous_format`.

    images     a batch as they will get it; two empty images of its shape are run where it lies
    weights    those of convolutions will be in the same layout; otherwise they stay as they lie

    The networks are tried in evaluation mode, on copies of their numbers: nothing of them changes, nor do the random
    numbers that are drawn later. One that fails in either layout is left to fail where it is used.
    """
    image = with_layout(images.new_zeros((2, *images.shape[1:])), torch.channels_last)
    try:
        for network in networks:
            _try(unwrapped(network), image, weights)
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last


def with_layout(images: Tensor, layout: torch.memory_format) -> Tensor:
    """Images (N, C, H, W) in this layout; inputs of another rank as they lie."""
    return images.to(memory_format=layout) if images.dim() == 4 else images


def convolution_tensors(network: nn.Module) -> list[Tensor]:
    """The parameters and buffers of 2d convolutions that have a layout."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return [tensor for each in convolutions for tensor in (*each.parameters(), *each.buffers()) if tensor.ndim == 4]


def _try(network: nn.Module, image: Tensor, weights: bool) -> None:
    device = image.device
    laid = {id(tensor) for tensor in convolution_tensors(network)} if weights else set[int]()
    tensors: dict[str, Tensor] = {}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        number = tensor.detach().to(device, copy=True)
        tensors[name] = number.contiguous(memory_format=torch.channels_last) if id(tensor) in laid else number
    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cards), torch.no_grad(), evaluating(network):  # pyright: ignore[reportUnknownMemberType]
        functional_call(network, tensors, (image,))
