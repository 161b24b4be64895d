"""Running statistics of batch norms, estimated again for the weights as they are now.

    mean = sum_b n_b mean_b / N                                          b: batches, n_b: values of a channel in batch b
    var  = (sum_b n_b var_b + sum_b n_b (mean_b - mean)^2) / (N - 1)     var_b: divided by n_b;  N = sum_b n_b

so that batches of any size pool to the statistics of all their values together, divided as torch does for one batch.
While the images run, norms normalise by their batch, as in training; everything else works as in evaluation, so there
is no dropout. Weights stay. Layer norms and group norms keep no statistics and need nothing.

Source: Li et al. 2020 (EagleEye, adaptive batch norm); the pooling is exact instead of a moving average.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur.errors import PosttrainingError
from secateur.sparsity import unwrapped
from secateur.sparsity.census import evaluating
from secateur.sparsity.norms import norm_modules


@torch.no_grad()
def estimate_norms_again_(
    model: nn.Module, batches: Iterable[Tensor], progress: Callable[[], None] | None = None
) -> int:
    """Give every batch norm that the images reach the statistics of these images.

    batches     prepared images; every one of them should hold some dozens
    progress    called after every batch
    returns     how many norms have new statistics; without any norm no image is looked at
    raises      PosttrainingError  no images, a batch with one value per channel, statistics that are not finite;
                                   the statistics are what they were then
    """
    network = unwrapped(model)
    norms = norm_modules(network)
    if not norms:
        return 0
    pools = {name: _Pool(name) for name in norms}
    kept = [(buffer, buffer.clone()) for norm in norms.values() for buffer in norm.buffers()]
    handles = [norm.register_forward_pre_hook(pools[name].enter) for name, norm in norms.items()]
    device, seen = next(network.parameters()).device, 0
    try:
        with evaluating(network):
            for norm in norms.values():
                norm.train()
            for images in batches:
                network(images.to(device))
                seen += 1
                if progress:
                    progress()
    finally:
        for handle in handles:
            handle.remove()
        # What training mode has left in the running statistics.
        for buffer, value in kept:
            buffer.copy_(value)
    if not seen:
        raise PosttrainingError("norms need images to estimate their statistics from; none were given.")
    results = {name: pool.result() for name, pool in pools.items() if pool.values}
    for name, (mean, variance) in results.items():
        cast(Tensor, norms[name].running_mean).copy_(mean)
        cast(Tensor, norms[name].running_var).copy_(variance)
        tracked = norms[name].num_batches_tracked
        if tracked is not None:
            tracked.fill_(pools[name].batches)
    return len(results)


class _Pool:
    """Pooled mean and sum of squared deviations of what one norm gets, per channel, in float64."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values, self.batches = 0, 0
        self._mean = self._squares = torch.zeros(0)

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        by_channel = cast(Tensor, inputs[0]).detach().transpose(0, 1).flatten(1).double()
        count = by_channel.shape[1]
        if count < 2:
            raise PosttrainingError(
                f"{self.name}: a batch has one value per channel, which has no variance; use larger batches."
            )
        mean = by_channel.mean(1)
        squares = (by_channel - mean[:, None]).square().sum(1)
        if not self.values:
            self._mean, self._squares = mean, squares
        else:
            # Chan, Golub & LeVeque 1979: two pools become one.
            total, gap = self.values + count, mean - self._mean
            self._mean = self._mean + gap * (count / total)
            self._squares = self._squares + squares + gap.square() * (self.values * count / total)
        self.values += count
        self.batches += 1

    def result(self) -> tuple[Tensor, Tensor]:
        if not bool(torch.isfinite(self._squares).all()):
            raise PosttrainingError(f"{self.name}: gets values that are not finite; the weights before it are damaged.")
        return self._mean, self._squares / (self.values - 1)
