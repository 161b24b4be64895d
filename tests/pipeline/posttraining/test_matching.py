"""Means and variances of layers without a norm: matched where that comes nearer to the dense network, else undone."""

import copy

import pytest
import torch
from torch import nn

from secateur.pipeline.posttraining.matching import match_outputs_
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining import TorchSubject
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.losses import Divergence
from secateur.posttraining.output_statistics import output_mean, output_variance
from secateur.posttraining.thin import GramImages
from secateur.zoo import Preprocessing

NONE = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3)
NAMES = ["0", "2", "5"]


def subjects(seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)
    ).eval()
    return TorchSubject(copy.deepcopy(network), NONE), TorchSubject(network, NONE)


def batches(seed=1):
    images = torch.rand((128, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    return list(images.split(32))


def matched(subject, dense, folder, budget=None):
    grams = gather_grams(dense, batches, NAMES)
    distance = Divergence(dense, lambda: batches(2)).of(subject)
    images = GramImages(batches)
    return match_outputs_(subject, dense, NAMES, images, grams, distance, TimeBox(budget, folder), 0), grams


def test_outputs_get_the_means_and_variances_of_the_dense_network(tmp_path):
    subject, dense = subjects()
    for name in NAMES:
        weight = subject.weight(name)
        subject.store_(name, weight, mask=weight.abs() > weight.abs().median())  # half of every layer's variance
    zeros = {name: subject.weight(name) == 0 for name in NAMES}
    kept, grams = matched(subject, dense, tmp_path)
    assert kept
    now = gather_grams(subject, batches, NAMES)
    for name in NAMES:
        assert torch.equal(subject.weight(name) == 0, zeros[name])
        wanted, found = dense.weight(name), subject.weight(name)
        bias = torch.zeros(len(wanted)) if dense.bias(name) is None else dense.bias(name)
        torch.testing.assert_close(
            output_variance(found, now[name]), output_variance(wanted, grams[name]), rtol=1e-3, atol=0
        )
        means = output_mean(found, now[name]) + subject.bias(name), output_mean(wanted, grams[name]) + bias
        torch.testing.assert_close(*means, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("budget", [None, 1e-6])
def test_what_comes_no_nearer_or_takes_too_long_is_undone(tmp_path, budget, capfd):
    subject, dense = subjects()
    if budget is not None:
        weight = subject.weight("0")
        subject.store_("0", weight, mask=weight.abs() > weight.abs().median())
    before = {name: (subject.weight(name), subject.bias(name)) for name in NAMES}
    kept, _ = matched(subject, dense, tmp_path, budget)
    assert not kept  # the same network already, or no time
    for name, (weight, bias) in before.items():
        assert torch.equal(subject.weight(name), weight)
        now = subject.bias(name)
        assert now is None or torch.equal(now, torch.zeros(len(weight)) if bias is None else bias)
    assert ("undone" if budget is None else "no time") in capfd.readouterr().err


def test_nothing_to_match(tmp_path):
    subject, dense = subjects()
    distance = Divergence(dense, batches)
    assert not match_outputs_(subject, dense, [], GramImages(batches), {}, distance, TimeBox(None, tmp_path), 0)
