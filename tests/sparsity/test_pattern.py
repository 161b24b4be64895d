"""Specs, dispatch by type, ties, and that a new pattern needs nothing but its own file."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import (
    BlockOf,
    Pattern,
    Unstructured,
    make_mask,
    parse_pattern,
    pattern_kind,
    pattern_types,
)


@given(st.integers(2, 32), st.sampled_from(["", "-fine"]), st.sampled_from(["short", "dense"]))
def test_specs_make_the_round_trip(n: int, fine: str, remainder: str):
    pattern = parse_pattern(f"1x{n}{fine}", remainder)
    assert pattern == BlockOf(n, "position" if fine else "kernel", remainder)
    assert parse_pattern(str(pattern), remainder) == pattern


def test_unstructured_and_patterns_themselves_are_specs():
    assert parse_pattern("unstructured") == Unstructured()
    assert str(Unstructured()) == "unstructured"
    assert parse_pattern(BlockOf(8)) == BlockOf(8)


@pytest.mark.parametrize("spec", ["1x1", "1x33", "1x0"])
def test_impossible_blocks_are_refused(spec: str):
    with pytest.raises(SparsityError, match="N goes from 2 to 32"):
        parse_pattern(spec)


@pytest.mark.parametrize("spec", ["unstructred", "1x", "x4", "2:4:8", "1x4-finer", ""])
def test_unknown_specs_are_refused_with_a_list(spec: str):
    with pytest.raises(SparsityError, match=r"unknown pattern.*Known: 1:4"):
        parse_pattern(spec)


def test_unknown_remainder_is_refused():
    with pytest.raises(SparsityError, match="unknown remainder 'sparse'"):
        parse_pattern("1x4", "sparse")


def test_a_new_pattern_is_one_class():
    @pattern_kind
    @dataclass(frozen=True)
    class EveryOther(Pattern):
        @classmethod
        def parse(cls, spec, remainder):
            return cls() if spec == "every-other" else None

        @classmethod
        def examples(cls):
            return ("every-other",)

        def __str__(self):
            return "every-other"

        def applies(self, shape, groups=1, kind="conv"):
            return None if shape[0] % 2 == 0 else "it needs an even number of filters"

        def units(self, shape, groups=1):
            return 2

        def group_scores(self, scores, groups=1, combine="mean"):
            return torch.stack([scores[0::2].mean(), scores[1::2].mean()])

        def mask_of(self, kept, scores, groups=1):
            return kept.repeat(len(scores) // 2)[:, None].expand(scores.shape)

    assert EveryOther in pattern_types()
    assert parse_pattern("every-other") == EveryOther()
    scores = torch.tensor([[3.0, 3.0], [1.0, 2.0]]).repeat(2, 1)
    assert make_mask(scores, EveryOther(), 0.5)[:, 0].tolist() == [True, False, True, False]
    with pytest.raises(SparsityError, match="even number of filters"):
        make_mask(torch.rand(3, 2), EveryOther(), 0.5)
    with pytest.raises(ValueError, match="two kinds of pattern named EveryOther"):
        pattern_kind(EveryOther)


def test_exact_ties_go_in_index_order_and_threshold_takes_all_of_them():
    scores = torch.tensor([[2.0, 1.0, 1.0, 1.0, 3.0]])
    exact = make_mask(scores, Unstructured(), 0.4)
    assert exact.tolist() == [[True, False, False, True, True]]
    threshold = make_mask(scores, Unstructured(), 0.4, ties="threshold")
    assert threshold.tolist() == [[True, False, False, False, True]]


@pytest.mark.parametrize(("spec", "kept"), [("filter", 3), ("channel", 2), ("filter/4", 4), ("kernel", 0)])
def test_a_threshold_never_takes_all_structures(spec, kept):
    # Every filter is as good as every other: all lie at the threshold.
    mask = make_mask(torch.ones(6, 4, 3, 3), parse_pattern(spec), 0.5, ties="threshold")
    assert int(mask.flatten(2).any(2).any(0 if spec == "channel" else 1).sum()) == kept


def test_threshold_without_ties_equals_exact():
    scores = torch.randperm(60).reshape(3, 4, 5).float()
    for percent in range(0, 101, 10):
        level = percent / 100
        assert torch.equal(
            make_mask(scores, Unstructured(), level),
            make_mask(scores, Unstructured(), level, ties="threshold"),
        )


@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(damage: float):
    scores = torch.ones(4, 4)
    scores[1, 2] = damage
    with pytest.raises(SparsityError, match="not finite"):
        make_mask(scores, Unstructured(), 0.5)
