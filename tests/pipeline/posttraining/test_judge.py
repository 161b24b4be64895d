"""A network is nearer where the fall of its distances is more than chance."""

import pytest
import torch

from secateur.pipeline.posttraining.judge import Judge, Verdict, fall_of


def test_a_fall_is_judged_image_by_image():
    """Paired: what images have in common does not count; its error is that of a mean."""
    before = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64)
    assert fall_of(before, before - 1.0) == (1.0, 0.0)
    fall, error = fall_of(before, before - torch.tensor([2.0, -2.0, 2.0, 0.0]))
    assert fall == 0.5 and error == pytest.approx((11 / 3) ** 0.5 / 2)
    assert fall_of(before[:1], before[:1] - 1.0) == (1.0, 0.0)
    broken = torch.full_like(before, float("nan"))
    assert fall_of(before, broken)[0] == -float("inf") and fall_of(broken, before)[0] == float("inf")


class Distances:
    """Of images that come in turn."""

    def __init__(self, *soft):
        self.soft = iter(soft)

    def each(self, *temperatures):
        soft = next(self.soft)
        return [soft / 2, soft]


def test_the_next_verdict_compares_with_what_was_nearer():
    first = torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64)
    judge = Judge(Distances(first, first + 1.0, first - 1.0, first - 0.5))
    assert judge.now == 2.0
    assert judge.verdict() == Verdict(2.5, -1.0, 0.0) and judge.now == 2.0
    assert judge.verdict() == Verdict(1.5, 1.0, 0.0) and judge.now == 1.5
    assert judge.verdict() == Verdict(1.75, -0.5, 0.0)


def test_a_verdict_is_a_sentence():
    assert str(Verdict(0.5, 0.25, 0.1)) == "nearer by 0.25 +- 0.1 at T 4"
    assert str(Verdict(0.5, 0.1, 0.1)) == "nearer by 0.1 +- 0.1 at T 4, undone"
