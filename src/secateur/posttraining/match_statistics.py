"""Mean and variance of every output channel matched to the dense layer's: norm re-estimation for folded graphs.

    y' = (y - mean_s) sd_d / sd_s + mean_d         s: pruned network, d: dense network
    W' = r W^        b' = mean_d - r W^ m^         r = sd_d / sd_s,  m^: mean column of the pruned layer's input

A channel whose pruned outputs do not vary, or whose variance is below SMALLEST of the dense one, gets the mean only:
there is nothing left to be scaled.

Where a batch norm follows, `estimate_norms_again_` does the same; layer and group norms need nothing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.errors import PosttrainingError
from secateur.posttraining.gram import Gram
from secateur.posttraining.output_statistics import bias_or_zero, output_mean, output_variance
from secateur.posttraining.subject import Subject

SMALLEST = 1e-6


def match_statistics_(
    subject: Subject, dense: Subject, grams: Mapping[str, Gram], inputs: Mapping[str, Gram]
) -> dict[str, Tensor]:
    """Match the layers that have a Gram in `inputs`, in its order; zeros and masks stay.

    grams      of the layers' inputs in the dense network
    inputs     of those in the pruned one: gathered at once (one pass), or `FreshGrams`, which gathers each when its
               turn comes, after the layers before it have been matched (sequential)
    returns    layer name -> (C_out,) the factors r
    raises     PosttrainingError  a Gram that is missing, or of another layer
    """
    factors: dict[str, Tensor] = {}
    for name in inputs:
        if name not in grams:
            raise PosttrainingError(f"{name}: the Gram of its inputs in the dense network is missing.")
        factors[name] = _match_(subject, dense, name, grams[name], inputs[name])
    return factors


def _match_(subject: Subject, dense: Subject, name: str, gram: Gram, inputs: Gram) -> Tensor:
    full, now = dense.weight(name), subject.weight(name)
    mean = output_mean(full, gram, name)
    mean = mean + bias_or_zero(dense, name, mean)
    wanted, there = output_variance(full, gram, name), output_variance(now, inputs, name)
    scalable = there > SMALLEST * wanted
    factor = torch.where(scalable, wanted / torch.where(scalable, there, 1.0), 1.0).sqrt()
    scaled = (now * factor.to(now).reshape(-1, *[1] * (now.dim() - 1))).to(now.dtype)
    # Of the weights as they are stored, so that the mean is right in spite of their rounding.
    bias = mean - output_mean(scaled, inputs, name)
    subject.store_(name, scaled, bias.to(now))
    return factor
