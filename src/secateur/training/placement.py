"""Where networks compute, and in which memory layout."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from secateur.sparsity.memory_layout import convolution_tensors, layout_for, with_layout


@contextlib.contextmanager
def placed(
    networks: Iterable[nn.Module], device: torch.device, input_size: Sequence[int]
) -> Iterator[torch.memory_format]:
    """Networks that see the same images, on `device` and in one layout; afterwards back home, contiguous.

    input_size    of one image, (channels, height, width)
    yields        the layout, for `moved`: channels last unless one of the networks cannot compute in it. ResNet-20 on
                  a CPU with AVX-512 trains 1.35 times and answers 1.24 times as fast with channels last.
    """
    networks = tuple(networks)
    layout = layout_for(networks, torch.zeros((1, *input_size), device=device))
    with contextlib.ExitStack() as stack:
        for network in networks:
            first = next(network.parameters(), None)
            stack.callback(network.to, device if first is None else first.device)
            stack.callback(_set_layout, network, torch.contiguous_format)
            network.to(device)
            _set_layout(network, layout)
        yield layout


def _set_layout(network: nn.Module, layout: torch.memory_format) -> None:
    for tensor in convolution_tensors(network):
        tensor.data = tensor.data.contiguous(memory_format=layout)


def moved(
    images: torch.Tensor, labels: torch.Tensor, device: torch.device, layout: torch.memory_format
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch on `device`, in the layout of `placed`."""
    images = with_layout(images.to(device, non_blocking=True), layout)
    return images, labels.to(device, non_blocking=True)
