"""A small network, the same one pruned, and what corrections of it are checked with."""

import copy

import torch
from torch import nn

from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import sparsify_
from secateur.zoo import Preprocessing

PREPROCESSING = Preprocessing((3, 7, 7), (0.5,) * 3, (0.25,) * 3)
IMAGES = torch.randn(24, 3, 7, 7, generator=torch.Generator().manual_seed(4)) + 0.5
NAMES = ("0", "2", "6")


def network(bias=True, norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=bias),
            nn.BatchNorm2d(8) if norm else nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=bias),
            nn.BatchNorm2d(8) if norm else nn.ReLU(),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 5, bias=bias),
        )
        if norm:
            model.train()
            for _ in range(5):
                model(torch.randn(16, 3, 7, 7))
    return model.eval()


def pruned(model):
    model = copy.deepcopy(model)
    sparsify_(model, 0.6, "unstructured", include_first=True, include_classifier=True, base="selected")
    return model


def batches():
    return IMAGES.split(10)


def grams_of(model, limit=None):
    return gather_grams(TorchSubject(model, PREPROCESSING), batches, NAMES, limit=limit)


def outputs(model, layer):
    """Mean over images and positions of what a layer gives."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        model.eval()(IMAGES)
    handle.remove()
    return kept[0].transpose(0, 1).flatten(1)
