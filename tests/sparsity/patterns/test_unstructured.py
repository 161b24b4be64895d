"""Unstructured masks: exact counts, the lowest scores, nested in the level."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.sparsity import Unstructured, make_mask, removed_count


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.floats(0, 1),
    st.sampled_from(["floor", "ceil", "nearest", "complement"]),
    st.integers(0, 3),
)
def test_any_mask_has_the_exact_count_and_keeps_the_highest(shape, sparsity, rounding, values):
    # few distinct values: ties everywhere
    scores = torch.randint(0, values + 1, shape, generator=torch.Generator().manual_seed(0)).float()
    mask = make_mask(scores, Unstructured(), sparsity, rounding)
    assert mask.shape == scores.shape
    assert int((~mask).sum()) == removed_count(scores.numel(), sparsity, rounding)
    if mask.any() and not mask.all():
        assert scores[mask].min() >= scores[~mask].max()


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_masks_are_nested_in_the_level(seed: int, one: float, other: float):
    scores = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    low, high = sorted((one, other))
    kept_less = make_mask(scores, Unstructured(), high)
    kept_more = make_mask(scores, Unstructured(), low)
    assert not bool((kept_less & ~kept_more).any())
