"""The damped inverse and its factor."""

import pytest
import torch

from secateur.errors import PosttrainingError, SingularGramError
from secateur.posttraining import inverse_of

A3 = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.5, 1.0, 2.0]], dtype=torch.float64)


def test_oracle_of_the_factor():
    found = inverse_of(A3, damping=0.0)
    expected = [[0.523424, -0.157027, -0.052342], [0.0, 0.632456, -0.316228], [0.0, 0.0, 0.707107]]
    assert torch.allclose(found.upper, torch.tensor(expected, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(found.inverse, torch.linalg.inv(A3))


def test_rule_6_damping_is_a_share_of_the_mean_diagonal():
    found = inverse_of(A3, damping=0.1)
    assert torch.allclose(found.inverse, torch.linalg.inv(A3 + 0.3 * torch.eye(3)))
    assert found.damping == 0.1


def test_rule_6_damping_grows_tenfold_on_failure():
    indefinite = torch.tensor([[1.0, 1.3], [1.3, 1.0]], dtype=torch.float64)
    found = inverse_of(indefinite, damping=0.01)
    assert found.damping == pytest.approx(1.0)
    together = inverse_of(torch.stack([torch.eye(2).double(), indefinite]), damping=0.01)
    assert torch.allclose(together.inverse[0], torch.eye(2).double() / 1.01)
    assert torch.allclose(together.inverse[1], found.inverse)


def test_rule_7_dead_inputs():
    matrix = torch.zeros((3, 3), dtype=torch.float64)
    matrix[:2, :2] = A3[:2, :2]
    found = inverse_of(matrix, damping=0.0)
    assert found.dead.tolist() == [False, False, True]
    assert found.inverse[2].tolist() == [0.0, 0.0, 1.0]


def test_errors_are_sentences():
    with pytest.raises(SingularGramError, match="positive definite"):
        inverse_of(torch.tensor([[1.0, 50.0], [50.0, 1.0]]))
    with pytest.raises(PosttrainingError, match="finite"):
        inverse_of(torch.full((2, 2), float("inf")))
    with pytest.raises(PosttrainingError, match="from 0 to 10"):
        inverse_of(A3, damping=-1.0)
