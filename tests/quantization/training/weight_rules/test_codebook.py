"""Weights that are the nearest centre."""

import pytest
import torch

from secateur.quantization.training.weight_rules.codebook import CodebookWeights
from secateur.recipe.schema.quantization_training import QuantizationTraining


def rule_of(weight, bits=2, **settings):
    rule = CodebookWeights(bits, QuantizationTraining(scheme="codebook", weight_bits=bits, **settings))
    rule.start_(weight)
    return rule


def test_starts():
    weight = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 15.0]])
    assert rule_of(weight).centres.tolist() == [[1, 3, 5, 15]]
    assert rule_of(weight, centres="uniform").centres[0].tolist() == pytest.approx([0, 5, 10, 15])


@pytest.mark.parametrize("bucket", ["layer", "channel", "split"])
def test_every_weight_is_its_nearest_centre(bucket):
    weight = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    rule = rule_of(weight, 3, bucket=bucket, bucket_size=40)
    with torch.no_grad():
        rule.flat.copy_(rule.centres.flip(1).reshape(-1))  # training may leave them in any order
    rows = rule(weight).reshape(len(rule.centres), -1)
    for row, before, centres in zip(rows, weight.reshape(rows.shape), rule.centres, strict=True):
        distances = (before[:, None] - centres[None]).abs()
        assert torch.equal((row - before).abs(), distances.min(dim=1).values)


@pytest.mark.parametrize(
    ("trained", "weights", "centres"), [("weights", 1, None), ("centres", None, 2), ("both", 1, 2)]
)
def test_gradients(trained, weights, centres):
    weight = torch.tensor([[0.0, 0.1, 9.0, 9.1, 20.0, 20.1, 30.0, 30.1]], requires_grad=True)
    rule = rule_of(weight.detach(), trained=trained)
    rule(weight).sum().backward()
    assert (weight.grad is None) == (weights is None) and (rule.flat.grad is None) == (centres is None)
    if weights:
        assert weight.grad.tolist() == [[1.0] * 8]
    if centres:
        assert rule.flat.grad.tolist() == [2.0] * 4
