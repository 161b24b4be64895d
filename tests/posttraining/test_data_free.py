"""Sparsity without images: magnitude's masks, corrected weights, norms as the checkpoint has them."""

import pytest
import torch

from pruned_pair import PREPROCESSING, network
from secateur.errors import PosttrainingError, SparsityError
from secateur.posttraining.data_free import sparsify_data_free_
from secateur.posttraining.subject_torch import TorchSubject
from secateur.posttraining.weight_correction import correct_weights
from secateur.sparsity import BlockOf, Unstructured, make_mask, masks

LEVELS = {"0": 0.5, "2": 0.25, "6": 0.75}


@pytest.mark.parametrize("correction", [None, "exact", "msb"])
@pytest.mark.parametrize("pattern", ["unstructured", "1x2"])
def test_masks_of_magnitude_and_corrected_weights(pattern, correction):
    model, dense = network(norm=True), network(norm=True)
    found = sparsify_data_free_(TorchSubject(model, PREPROCESSING), LEVELS, pattern, correction=correction)
    assert found.keys() == masks(model).keys() == LEVELS.keys()
    for name, level in LEVELS.items():
        weight = dense.get_submodule(name).weight.detach()
        groups = 4 if name == "2" else 1
        mask = make_mask(weight.abs(), BlockOf(2) if pattern == "1x2" else Unstructured(), level, groups=groups)
        assert torch.equal(found[name], mask) and torch.equal(masks(model)[name], mask)
        expected = weight.masked_fill(~mask, 0.0) if correction is None else correct_weights(weight, mask, correction)
        torch.testing.assert_close(model.get_submodule(name).weight.detach(), expected)
    for name, buffer in dense.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name


def test_what_cannot_be_is_said():
    subject = TorchSubject(network(), PREPROCESSING)
    with pytest.raises(PosttrainingError, match="no layer"):
        sparsify_data_free_(subject, {})
    with pytest.raises(SparsityError, match="nothing"):
        sparsify_data_free_(subject, {"nothing": 0.5})
