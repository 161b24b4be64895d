"""Threshold rules against numbers worked out by hand."""

import math

import pytest
import torch

from secateur.errors import SparsityError
from secateur.sparsity.thresholds import BaiduRamp, FixedThresholds, Sensitivities, SpliceRule, WeightStatistics

# |w| = 1 2 3 4:  mean 2.5, deviation sqrt(5/3);  w = 1 -2 3 -4:  mean -.5, sum of squares 30 - 4 * .25 = 29
KNOWN = WeightStatistics.of(torch.tensor([[1.0, -2.0], [3.0, -4.0]]))


def kept(rule, sizes, there=None, epoch=0):
    sizes = torch.tensor(sizes)
    before = torch.ones(len(sizes), dtype=torch.bool) if there is None else torch.tensor(there, dtype=torch.bool)
    return rule.keep("a", sizes, before, KNOWN, epoch).int().tolist()


def test_statistics_of_a_layer():
    assert KNOWN.deviation == pytest.approx(math.sqrt(29 / 3))
    assert KNOWN.magnitude == 2.5
    assert KNOWN.magnitude_deviation == pytest.approx(math.sqrt(5 / 3))
    assert WeightStatistics.of(torch.tensor([-3.0])) == WeightStatistics(0.0, 3.0, 0.0)


def test_a_threshold_itself_goes():
    assert kept(FixedThresholds(thresholds={"a": 2.0}), [1.0, 2.0, 2.5, 0.0]) == [0, 0, 1, 0]


def test_sensitivity_counts_in_deviations():
    edge = 0.5 * math.sqrt(29 / 3)
    assert kept(Sensitivities(sensitivities={"a": 0.5}), [edge - 1e-4, edge + 1e-4]) == [0, 1]


def test_baidu_as_published():
    rule = BaiduRamp(q=1.0, offset=5, start=0, end=15)
    found = [rule.threshold_at(epoch) for epoch in (0, 4, 5, 14)]
    assert found == pytest.approx([0.05, 0.25, 0.40, 1.30], abs=1e-12)
    assert rule.threshold_at(99) == rule.threshold_at(14), "it stays where it ended"
    assert kept(rule, [0.39, 0.41], epoch=5) == [0, 1]


def test_baidu_every_other_epoch():
    # f = 2: slope = 2 * 1 * 2 / (2 * 4 + 3 * 6) = 2/13;  eps(0) = slope / 2, eps(4) = (slope * 5 + slope * 2 * 1) / 2
    rule = BaiduRamp(q=1.0, offset=4, start=1, end=11, every=2)
    assert rule.threshold_at(0) == 0.0
    assert rule.threshold_at(1) == rule.threshold_at(2) == pytest.approx(1 / 13)
    assert rule.threshold_at(5) == rule.threshold_at(6) == pytest.approx(7 / 13)
    assert [epoch for epoch in range(20) if rule.due(epoch)] == [1, 3, 5, 7, 9]


def test_splicing_has_two_thresholds():
    rule = SpliceRule(sensitivities={"a": 1.0}, low=0.5, high=1.0)
    middle = 2.5 + math.sqrt(5 / 3)
    sizes = [middle / 2 - 1e-4, middle / 2 + 1e-4, middle - 1e-4, middle + 1e-4]
    assert kept(rule, sizes, [1, 1, 0, 0]) == [0, 1, 0, 1]
    assert kept(rule, sizes, [0, 0, 1, 1]) == [0, 0, 1, 1]


def test_splicing_at_the_thresholds_themselves():
    """|w| < a goes, |w| >= b comes back."""
    rule = SpliceRule(sensitivities={"a": 0.0}, low=0.4, high=0.8)
    assert kept(rule, [1.0, 2.0], [1, 0]) == [1, 1]


def test_a_growing_sensitivity():
    rule = SpliceRule(sensitivities={"a": 1.0}, low=1.0, high=1.0, growth=0.5, start=2, every=2)
    middle = [rule.bounds("a", KNOWN, epoch)[0] for epoch in (2, 3, 4, 6)]
    assert middle == pytest.approx([2.5 + q * math.sqrt(5 / 3) for q in (1, 1, 2, 3)])


def test_when_masks_are_chosen():
    rule = FixedThresholds(thresholds={"a": 1.0}, start=1, end=8, every=3)
    assert [epoch for epoch in range(20) if rule.due(epoch)] == [1, 4, 7]
    assert (rule.first, rule.stop) == (1, 8)
    endless = FixedThresholds(thresholds={"a": 1.0}, start=1, every=3)
    assert [epoch for epoch in range(12) if endless.due(epoch)] == [1, 4, 7, 10]
    assert endless.stop is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedThresholds(start=3, end=3),
        lambda: Sensitivities(every=0),
        lambda: SpliceRule(low=1.1, high=0.9),
        lambda: BaiduRamp(q=1.0, offset=16, end=15),
    ],
)
def test_contradictions_are_sentences(make):
    with pytest.raises(SparsityError, match=r"\.$"):
        make()
