"""Folding masks away, in the original and in copies."""

import copy

import torch
from torch import nn

from secateur.sparsity import attach_masks_, fold_masks_, has_masks, set_mask_


def test_folding_a_copy_leaves_the_original_masked():
    """torch edits the class that a deep copy shares with its original; folding must not."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3))
    attach_masks_(model, ["0"])
    set_mask_(model[0], torch.zeros(4, 2, 3, 3, dtype=torch.bool))
    twin = copy.deepcopy(model)
    fold_masks_(twin)
    assert not has_masks(twin) and has_masks(model)
    assert int(torch.count_nonzero(model[0].weight)) == int(torch.count_nonzero(twin[0].weight)) == 0
    fold_masks_(model)
    assert type(model[0]) is nn.Conv2d


def test_folding_keeps_shared_weights_shared():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    attach_masks_(model, ["0"])
    set_mask_(model[0], torch.eye(4, dtype=torch.bool))
    fold_masks_(model)
    assert model[0].weight is model[1].weight
    assert int(torch.count_nonzero(model[0].weight)) <= 4
