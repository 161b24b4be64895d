"""Batch norms folded into the weights before them: the function is the same, the norms do nothing any more."""

import copy

import pytest
import torch
from torch import nn

from pruned_pair import IMAGES, network
from secateur.errors import PosttrainingError
from secateur.posttraining import fold_norms_
from secateur.sparsity import sparsify_


@torch.no_grad()
def stirred(model):
    """Norms as a training leaves them."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                module.weight.uniform_(-2, 2)
                module.bias.uniform_(-1, 1)
    return model.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_the_function_is_the_same_and_norms_are_neutral(bias):
    model = stirred(network(bias, norm=True))
    before, names = model(IMAGES), set(model.state_dict())
    assert fold_norms_(model, (3, 7, 7)) == {"0": "1", "2": "3"}
    torch.testing.assert_close(model(IMAGES), before, atol=1e-5, rtol=1e-5)
    values = torch.randn(2, 8, 4, 4)
    for norm in (model[1], model[3]):
        torch.testing.assert_close(norm(values), values, atol=1e-6, rtol=0)
    assert set(model.state_dict()) == names | {"0.bias", "2.bias"}


class Shapes(nn.Module):
    """A transposed convolution of two groups, a linear layer, a norm without weights, and one that is read twice."""

    def __init__(self):
        super().__init__()
        self.up, self.up_norm = nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6, affine=False)
        self.twice, self.twice_norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.last, self.last_norm = nn.Linear(6, 5), nn.BatchNorm1d(5)

    def forward(self, x):
        x = torch.relu(self.up_norm(self.up(x)))
        x = self.twice_norm(self.twice(self.twice_norm(x)))
        return self.last_norm(self.last(x.mean(dim=(2, 3))))


def test_every_kind_of_layer_and_a_norm_of_several_stays():
    model, images = stirred(Shapes()), torch.randn(3, 4, 5, 5)
    before, kept = model(images), copy.deepcopy(model.twice_norm.state_dict())
    assert set(fold_norms_(model, (4, 5, 5))) == {"up", "last"}
    torch.testing.assert_close(model(images), before, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(value, kept[name]) for name, value in model.twice_norm.state_dict().items())


def test_masks_come_afterwards():
    model = network(norm=True)
    sparsify_(model, 0.5, "unstructured", base="selected", only=["2"])
    with pytest.raises(PosttrainingError, match="before weights are removed"):
        fold_norms_(model, (3, 7, 7))
