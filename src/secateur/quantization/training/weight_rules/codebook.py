"""Weights that are the nearest of a few centres.

    w' = c_k ,  k = argmin |w - c_k| ,   2^b centres c for each bucket
    gradients   to the weight (weights), to the centre from all weights that have it (centres), or to both

Centres start at the quantiles of the weights or evenly between their extremes. The file keeps these weights as
floating-point numbers of 2^b values.

Source: PocketFlow, non-uniform quantization learner.
"""

import torch
from torch import Tensor, nn

from secateur.quantization.training.straight_through import through
from secateur.quantization.training.weight_rules.buckets import in_buckets
from secateur.quantization.training.weights import Grid, WeightRule, weight_rules


@weight_rules.register("codebook")
class CodebookWeights(WeightRule):
    """By a code book for each bucket."""

    flat: nn.Parameter

    @property
    def centres(self) -> Tensor:
        """(buckets, 2^b)."""
        return self.flat.reshape(-1, 2**self.bits)

    def start_(self, weight: Tensor) -> None:
        rows = in_buckets(weight, self.config)
        count = 2**self.bits
        if self.config.centres == "uniform":
            low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
            places = torch.linspace(0, 1, count, device=weight.device)
            centres = low + (high - low) * places
        else:
            # The middles of 2^b parts with as many weights each.
            places = (torch.arange(count, device=weight.device) + 0.5) / count
            order = rows.sort(dim=1).values
            centres = order[:, (places * rows.shape[1]).long().clamp(max=rows.shape[1] - 1)]
        # In one dimension: weight decay acts on parameters of more, and has no business here.
        self.flat = nn.Parameter(centres.reshape(-1).contiguous(), requires_grad=self.config.trained != "weights")

    def forward(self, weight: Tensor) -> Tensor:
        rows = in_buckets(weight, self.config)
        nearest = self._nearest(rows.detach())
        chosen = self.centres.gather(1, nearest).reshape(-1)[: weight.numel()].reshape(weight.shape)
        if self.config.trained == "centres":
            return chosen
        value = through(weight, chosen)
        return value if self.config.trained == "weights" else value + (chosen - chosen.detach())

    def grid(self, weight: Tensor) -> Grid | str:
        return "the centres of a code book are no multiples of one step, so integers cannot tell these weights"

    def _nearest(self, rows: Tensor) -> Tensor:
        # Between two sorted centres lies the border where the nearer one changes; ties go to the smaller.
        centres, order = self.centres.detach().sort(dim=1)
        borders = (centres[:, 1:] + centres[:, :-1]) / 2
        return order.gather(1, torch.searchsorted(borders.contiguous(), rows.contiguous()))
