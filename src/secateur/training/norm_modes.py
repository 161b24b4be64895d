"""Modes of a network whose batch norms alone may learn from the batch; all the rest works as in evaluation."""

import contextlib
from collections.abc import Iterator

from torch import nn

from secateur.sparsity.norms import norm_modules


@contextlib.contextmanager
def norms_follow(model: nn.Module, momentum: float) -> Iterator[None]:
    """Inside, running statistics follow by `momentum`; afterwards all modes and momenta are what they were."""
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norm_modules(model).values()}
    for norm in momenta:
        norm.momentum = momentum
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm, own in momenta.items():
            norm.momentum = own


def only_norms_train_(model: nn.Module, on: bool) -> None:
    """Evaluation mode for everything; batch norms use and follow the batch's statistics, if `on`."""
    model.eval()
    if on:
        for norm in norm_modules(model).values():
            norm.train()
