"""Kernels go as a whole; 1x1 and linear layers have kernels of one weight."""

import torch

from secateur.sparsity import Kernel, Unstructured, make_mask


def test_whole_kernels_of_depthwise_layers_too():
    scores = torch.ones(4, 1, 3, 3)
    scores[2] = 0.1
    mask = make_mask(scores, Kernel(), 0.25, groups=4)
    assert not mask[2].any() and mask[[0, 1, 3]].all()


def test_one_weight_where_the_kernel_is_one_weight():
    for shape in ((6, 5), (6, 5, 1, 1)):
        scores = torch.rand(shape)
        assert torch.equal(make_mask(scores, Kernel(), 0.4), make_mask(scores, Unstructured(), 0.4))
