"""4in: four input channels at one position; padding is never counted."""

import torch

from secateur.sparsity import FourIn, make_mask


def test_a_layer_with_three_channels_has_blocks_of_three():
    pattern = FourIn()
    assert pattern.units((8, 3, 3, 3)) == 8 * 9
    assert pattern.prunable((8, 3, 3, 3)) == 8 * 27
    mask = make_mask(torch.rand(8, 3, 3, 3), pattern, 0.5)
    assert int((~mask).sum()) == 36 * 3


def test_four_channels_of_one_filter_go_together():
    scores = torch.ones(2, 8, 3, 3)
    scores[1, 4:, 2, 0] = 0.1
    mask = make_mask(scores, FourIn(), 1 / 36)
    assert int((~mask).sum()) == 4 and not mask[1, 4:, 2, 0].any()


def test_depthwise_layers_have_no_four_channels():
    assert "depthwise" in (FourIn().applies((8, 1, 3, 3), 8) or "")
