"""Weights between the extremes of their bucket.

    x = (w - min) / (max - min) ,   w' = round(x (2^b - 1)) / (2^b - 1) (max - min) + min

A bucket is the layer, a filter, or a run of `bucket_size` weights in order of storage; the last one may be shorter.
Zero is no level in general, so integers cannot tell these weights: the file keeps them as floating-point numbers of
2^b values to a bucket. Removed weights are zero all the same.

Source: PocketFlow, uniform quantization learner.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.quantization.training.straight_through import through
from secateur.quantization.training.weights import Grid, WeightRule, weight_rules
from secateur.recipe.schema.quantization_training import QuantizationTraining


def in_buckets(weight: Tensor, config: QuantizationTraining) -> Tensor:
    """The weights as rows, one a bucket; where the last one is too short it is filled with its last weight."""
    if config.bucket == "layer":
        return weight.reshape(1, -1)
    if config.bucket == "channel":
        return weight.flatten(1)
    flat = weight.reshape(-1)
    missing = -len(flat) % config.bucket_size
    if missing:
        flat = F.pad(flat[None], (0, missing), mode="replicate")[0] if len(flat) > 1 else flat.repeat(missing + 1)
    return flat.reshape(-1, config.bucket_size)


@weight_rules.register("uniform")
class BucketWeights(WeightRule):
    """By the range of each bucket."""

    def forward(self, weight: Tensor) -> Tensor:
        levels = 2**self.bits - 1
        with torch.no_grad():
            rows = in_buckets(weight, self.config)
            low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
            width = torch.where(high > low, high - low, torch.ones_like(high))
            rounded = torch.round((rows - low) / width * levels) / levels * width + low
            value = rounded.reshape(-1)[: weight.numel()].reshape(weight.shape)
        return through(weight, value)

    def grid(self, weight: Tensor) -> Grid | str:
        return "zero is no level between the extremes of a bucket, so integers cannot tell these weights"
