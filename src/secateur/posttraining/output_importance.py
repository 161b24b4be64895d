"""How much a network's answers depend on every output of a layer, from a few unlabeled images.

    p = softmax(logits / T),   v ~ N(0, diag(p) - p p^T)       one draw for each image
    F_c = mean over images of  sum over positions of (d v.logits / d y_c)^2
    importance_c = sqrt(F_c), divided by the mean over the layer's outputs, at least LEAST

v has the covariance of the answers' Fisher information, so that F_c tells what a small error of y_c does to them. It is
half trusted, which the root says: zeros are no small errors, and few images make F noisy. KL divergence (T 1, T 4) on
images that are held out, levels fixed, masks chosen among the outputs of a layer weighed by

    alike           F               sqrt(F)
    .164  .725      .131  .570      .124  .595      MobileNetV1 .75 in an ONNX file, 50 %
    .243  1.196     .305  1.237     .232  1.159     the same in torch, norms not folded, 60 %
    .165  .526                      .165  .502      SqueezeNet 1.1, 60 %
    .177  3.73      .170  3.64      .158  3.57      ResNet-20, CIFAR-10, 80 %

Folded norms make filters long or short, which is not what they matter; of files the gain is largest.

Source: Martens & Grosse 2015 (K-FAC: what a layer gets and what flows back, apart); root and draws are our own design.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.posttraining.losses import Batches
from secateur.progress import track
from secateur.sparsity.census import evaluating

TEMPERATURE = 4.0
# The order of importance is settled after some images: more cost time.
MOST_IMAGES = 128
IMAGES_AT_A_TIME = 16
LEAST = 1e-4


def output_importance(
    network: nn.Module, layers: Mapping[str, Sequence[str]], batches: Batches, *, seed: int = 0
) -> dict[str, Tensor]:
    """(C_out,) float64 of every layer, 1 on average. Layers that the answers do not depend on are missing.

    network    on whatever device; it and its gradients stay as they are
    layers     name -> its modules, which share a weight
    batches    images (images, channels, height, width), prepared; the first MOST_IMAGES count
    """
    flows = {name: _Flow() for name in layers}
    modules = dict(network.named_modules())
    handles = [
        modules[module].register_forward_hook(flows[name].watch) for name, users in layers.items() for module in users
    ]
    like = next((own for own in network.parameters() if own.is_floating_point()), torch.zeros(()))
    draws = torch.Generator().manual_seed(seed)
    try:
        with evaluating(network), torch.enable_grad(), track(None, "importance of outputs") as progress:
            for images in _first(batches(), MOST_IMAGES):
                # Not a leaf: a network may begin with an operation in place.
                entry = images.to(like.device, like.dtype).requires_grad_()
                _answer(network(entry.clone()).flatten(1), entry, draws)
                progress.advance()
    finally:
        for handle in handles:
            handle.remove()
    return {name: found for name, flow in flows.items() if (found := flow.importance()) is not None}


class _Flow:
    """Sums the squares of what flows back to the outputs of one layer."""

    def __init__(self) -> None:
        self.squares: Tensor | None = None

    def watch(self, module: Any, _inputs: object, output: Tensor) -> None:
        """Forward hook."""
        if output.requires_grad:
            axis = getattr(module, "output_axis", -1 if isinstance(module, nn.Linear) else 1)
            output.register_hook(partial(self._add, axis))

    def _add(self, axis: int, gradient: Tensor) -> None:
        squares = gradient.detach().movedim(axis, 0).flatten(1).double().square().sum(1).cpu()
        self.squares = squares if self.squares is None else self.squares + squares

    def importance(self) -> Tensor | None:
        """None where nothing, or nothing finite, flowed back."""
        if self.squares is None:
            return None
        roots = self.squares.sqrt()
        shares = roots / roots.mean()
        return shares.clamp(min=LEAST) if bool(torch.isfinite(shares).all()) else None


def _answer(logits: Tensor, entry: Tensor, draws: torch.Generator) -> None:
    """Send a draw of v back. It ends at the images: gradients of the weights are not computed."""
    if not logits.requires_grad:
        return
    shares = torch.softmax(logits.detach().double().cpu() / TEMPERATURE, dim=1)
    noise = torch.randn(shares.shape, generator=draws, dtype=torch.float64) * shares.sqrt()
    drawn = noise - shares * noise.sum(1, keepdim=True)
    torch.autograd.grad(logits, entry, drawn.to(logits), allow_unused=True)


def _first(batches: Iterable[Tensor], count: int) -> Iterable[Tensor]:
    """The first `count` images, few at a time: all that lies between two layers is held while gradients flow."""
    seen = 0
    for images in batches:
        if seen >= count:
            return
        yield from images[: count - seen].split(IMAGES_AT_A_TIME)
        seen += len(images)
