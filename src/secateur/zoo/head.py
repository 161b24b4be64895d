"""The classifier of a network: its last linear layer, or 1x1 convolution."""

from torch import nn

from secateur.errors import ModelError


def head_of(module: nn.Module) -> str:
    """Name of the layer whose outputs are the classes. raises ModelError when there is none."""
    layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ModelError(f"{type(module).__name__} has no linear layer or convolution, so no classes can be told.")
    return layers[-1]


def classes_of(module: nn.Module) -> int:
    """Number of classes that a classification network tells apart. raises ModelError."""
    head = module.get_submodule(head_of(module))
    return head.out_features if isinstance(head, nn.Linear) else int(head.out_channels)  # type: ignore[arg-type]
