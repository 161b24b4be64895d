"""The walk over the columns: its oracle, and that it knows its own error."""

import pytest
import torch

from secateur.posttraining import inverse_of
from secateur.posttraining.columnwise import walk_columns

A3 = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.5, 1.0, 2.0]], dtype=torch.float64)
W3 = torch.tensor([[1.0, -0.6, 0.8]], dtype=torch.float64)


@pytest.mark.parametrize("block", [1, 2, 128])
@pytest.mark.parametrize(
    "kept, weights, error", [((0, 2), (1, 0, 0.5), 0.9), ((1, 2), (0, -0.3, 0.9), 3.65), ((0, 1), (1, -0.6, 0), 1.28)]
)
def test_oracle_of_given_masks(block, kept, weights, error):
    mask = torch.zeros((1, 3), dtype=torch.bool)
    mask[0, list(kept)] = True
    found, lost = walk_columns(W3, inverse_of(A3, damping=0.0).upper, mask, block)
    assert found.flatten().tolist() == pytest.approx(weights, abs=1e-9)
    assert float(lost) == pytest.approx(error, abs=1e-9)


def test_sum_of_squares_is_the_error():
    torch.manual_seed(0)
    x = torch.randn(20, 90, dtype=torch.float64).relu()
    matrix, weight, mask = x @ x.T / 90, torch.randn(7, 20, dtype=torch.float64), torch.rand(7, 20) > 0.5
    found, lost = walk_columns(weight, inverse_of(matrix, damping=0.0).upper, mask, block=8)
    change = weight - found
    assert torch.allclose(((change @ matrix) * change).sum(1), lost)
    assert not found[~mask].any()
