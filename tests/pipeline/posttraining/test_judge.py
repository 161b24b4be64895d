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
    """Of images that come in turn, at T = 1 and at T = 4."""

    def __init__(self, *looks):
        self.looks = iter(looks)

    def each(self, *temperatures):
        sharp, soft = next(self.looks)
        return [torch.tensor(sharp, dtype=torch.float64), torch.tensor(soft, dtype=torch.float64)]


def test_the_next_verdict_compares_with_what_was_nearer():
    looks = [([half * each for each in (3.0, 4.0, 5.0)], [3.0 + up, 4.0 + up, 5.0 + up])
             for half, up in ((0.5, 0.0), (0.75, 1.0), (0.25, -1.0), (0.375, -0.5))]  # fmt: skip
    judge = Judge(Distances(*looks))
    assert judge.now == 2.0
    found = judge.verdict()
    assert (found.distance, found.fall, found.error, found.nearer) == (3.0, -1.0, 0.0, False) and judge.now == 2.0
    found = judge.verdict()
    assert (found.distance, found.fall, found.error, found.nearer) == (1.0, 1.0, 0.0, True) and judge.now == 1.0
    found = judge.verdict()
    assert (found.distance, found.fall, found.error, found.nearer) == (1.5, -0.5, 0.0, False) and judge.now == 1.0


@pytest.mark.parametrize(("sharp", "nearer"), [
    ([1.0, 2.0, 3.0], True),  # nothing has become of it
    ([1.5, 2.0, 3.0], True),  # by one standard error
    ([1.5, 2.5, 3.0], False),  # by two
    ([0.5, 1.0, 2.0], True),
    ([float("nan"), 1.0, 2.0], False),
])  # fmt: skip
def test_nearer_at_the_temperature_of_judgement_does_not_pay_for_farther_at_one(sharp, nearer):
    judge = Judge(Distances(([1.0, 2.0, 3.0], [9.0, 9.0, 9.0]), (sharp, [8.0, 8.0, 8.5])))
    verdict = judge.verdict()
    assert verdict.nearer is nearer and verdict.fall > verdict.error
    assert ("but farther by" in str(verdict)) is not nearer


def test_a_verdict_is_a_sentence():
    assert str(Verdict(0.5, 0.25, 0.1, 0.0, 0.0)) == "nearer by 0.25 +- 0.1 at T 4"
    assert str(Verdict(0.5, 0.1, 0.1, 0.5, 0.0)) == "nearer by 0.1 +- 0.1 at T 4, undone"
    assert str(Verdict(0.5, 0.2, 0.1, -0.5, 0.1)) == (
        "nearer by 0.2 +- 0.1 at T 4, but farther by 0.5 +- 0.1 at T 1, undone"
    )
