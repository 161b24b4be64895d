"""FPGM and nuclear norm: the oracles, and against their definitions."""

import pytest
import torch

from secateur.sparsity import ScoreInputs, criteria

FILTERS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0], [0.0, 3.0]])


def scores(name: str, weight: torch.Tensor) -> list[float]:
    return criteria[name].scores(ScoreInputs(weight)).tolist()


def test_oracles():
    assert scores("fpgm", FILTERS) == pytest.approx([2, 1.790569, 3, 2.790569], abs=1e-6)
    assert scores("fpgm-l1", FILTERS) == pytest.approx([2, 2, 3.5, 3.5])
    assert float(torch.linalg.matrix_norm(FILTERS, "nuc")) == pytest.approx(7.123106, abs=1e-6)
    assert scores("nuclear", FILTERS) == pytest.approx([0, 0.123106, 3.123106, 3], abs=1e-6)


def test_cosine_distance_of_right_angles_and_of_nothing():
    # (1, 0), (4, 0), (0, 3) and a zero filter: to each other 0 or 1, zero to everything 1.
    weight = torch.tensor([[1.0, 0.0], [4.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    assert scores("fpgm-cos", weight) == pytest.approx([2 / 4, 2 / 4, 3 / 4, 3 / 4])


def test_nearly_equal_filters_keep_their_distance():
    weight = torch.full((2, 3, 3, 3), 1e3, dtype=torch.float64)
    weight[1, 0, 0, 0] += 1e-4
    assert scores("fpgm", weight) == pytest.approx([5e-5, 5e-5])


@pytest.mark.parametrize(("name", "power"), [("fpgm", 2), ("fpgm-l1", 1)])
def test_against_the_definition_on_many_filters(name, power):
    weight = torch.randn(37, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    flat = weight.flatten(1).double()
    wanted = (flat[:, None] - flat[None]).abs().pow(power).sum(-1).pow(1 / power).mean(1)
    assert scores(name, weight) == pytest.approx(wanted.tolist())


def test_nuclear_against_the_definition():
    weight = torch.randn(9, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    flat = weight.flatten(1).double()
    whole = torch.linalg.svdvals(flat).sum()
    wanted = [float(whole - torch.linalg.svdvals(torch.cat([flat[:i], flat[i + 1 :]])).sum()) for i in range(9)]
    assert scores("nuclear", weight) == pytest.approx(wanted)
