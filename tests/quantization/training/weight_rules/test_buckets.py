"""Weights between the extremes of their bucket."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.quantization.training.weight_rules.buckets import BucketWeights, in_buckets
from secateur.recipe.schema.quantization_training import QuantizationTraining


def config(bucket, size=256):
    return QuantizationTraining(scheme="uniform", bucket=bucket, bucket_size=size)


def test_buckets():
    weight = torch.arange(12.0).reshape(3, 4)
    assert in_buckets(weight, config("layer")).shape == (1, 12)
    assert torch.equal(in_buckets(weight, config("channel")), weight)
    assert in_buckets(weight, config("split", 5)).tolist() == [
        [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 11, 11, 11],
    ]  # fmt: skip


@given(st.integers(1, 40), st.integers(2, 9))
def test_every_weight_is_in_its_bucket(count, size):
    weight = torch.arange(float(count)).reshape(1, -1)
    rows = in_buckets(weight, config("split", size))
    assert rows.shape[1] == size and torch.equal(rows.reshape(-1)[:count], weight[0])


@pytest.mark.parametrize("bucket", ["layer", "channel", "split"])
def test_levels_lie_evenly_between_the_extremes(bucket):
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rule = BucketWeights(3, config(bucket, 64))
    output = rule(weight)
    for before, after in zip(
        in_buckets(weight.detach(), rule.config), in_buckets(output.detach(), rule.config), strict=True
    ):
        low, high = before.min(), before.max()
        assert len(after.unique()) <= 8
        assert torch.allclose(after.min(), low) and torch.allclose(after.max(), high, atol=1e-6)
        assert (after - before).abs().max() <= (high - low) / 14 + 1e-6
    output.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_equal_weights_stay_what_they_are():
    weight = torch.full((2, 3), 0.3)
    assert torch.equal(BucketWeights(2, config("layer"))(weight), weight)
    assert "zero is no level" in BucketWeights(2, config("layer")).grid(weight)
