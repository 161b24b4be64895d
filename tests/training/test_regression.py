"""Layer-wise regression: against least squares, only kept weights move, nothing becomes worse."""

import copy

import pytest
import torch
from torch import nn

from secateur.errors import TrainingError
from secateur.sparsity import masks, sparsify_
from secateur.training.regression import regress_


def networks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))
    dense = copy.deepcopy(model)
    sparsify_(model, 0.6, "unstructured", base="selected")
    return model, dense


def batches(count=4, size=64):
    torch.manual_seed(1)
    shift = torch.randn(1, 3, 6, 6)  # inputs that belong together, so that weights can stand in for each other
    return [
        (torch.randn(size, 1, 1, 1) * shift + 0.3 * torch.randn(size, 3, 6, 6), torch.zeros(size)) for _ in range(count)
    ]


def test_it_nears_least_squares():
    model, dense = networks()
    images = torch.cat([batch for batch, _ in batches()])
    (row,) = regress_(model, dense, [(images, None)], iterations=300, learning_rate=0.05)
    inputs = dense[:2](images)
    columns = nn.functional.unfold(inputs, 3).transpose(1, 2).reshape(-1, 72).detach()
    wanted = dense[2](inputs).flatten(2).transpose(1, 2).reshape(-1, 8).detach()
    best = 0.0
    for number, mask in enumerate(masks(model)["2"].flatten(1)):
        target = (wanted[:, number] - dense[2].bias[number]).detach()
        fitted = columns[:, mask] @ torch.linalg.lstsq(columns[:, mask], target[:, None]).solution
        best += float((fitted[:, 0] - target).square().mean()) / 8
    assert row.layer == "2" and row.before > 2 * best
    assert best <= row.after * 1.001 and row.after < 1.05 * best


def test_only_kept_weights_move_and_masks_stay():
    model, dense = networks()
    before, mask = copy.deepcopy(model.state_dict()), masks(model)["2"].clone()
    dense_before = copy.deepcopy(dense.state_dict())
    rows = regress_(model, dense, batches(), iterations=20)
    assert all(row.after < row.before for row in rows)
    for name, value in model.state_dict().items():
        same = value == before[name]
        if name == "2.parametrizations.weight.original":
            assert same[~mask].all() and not same[mask].any()
        else:
            assert same.all(), name
    assert all(torch.equal(value, dense_before[name]) for name, value in dense.state_dict().items())
    assert not any(module._forward_hooks for module in [*model.modules(), *dense.modules()])


def test_a_layer_that_becomes_worse_keeps_its_weights():
    model, dense = networks()
    before = copy.deepcopy(model.state_dict())
    (row,) = regress_(model, dense, batches(1), iterations=2, learning_rate=100.0)
    assert row.after == row.before
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_twice_and_few_batches_are_used_again():
    results = []
    for _ in range(2):
        model, dense = networks()
        regress_(model, dense, batches(1, size=8), iterations=5)
        results.append(model.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_no_images_and_another_network_are_sentences():
    model, dense = networks()
    with pytest.raises(TrainingError, match="needs training images, and there are none"):
        regress_(model, dense, [])
    with pytest.raises(TrainingError, match="the dense network has no layer '2'"):
        regress_(model, dense[:1], batches())
