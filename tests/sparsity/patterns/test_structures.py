"""Filters, channels, rows and columns: multiples, and that something always remains."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import make_mask, parse_pattern


@pytest.mark.parametrize(
    ("filters", "level", "step", "removed"),
    [(64, 0.33, 1, 21), (64, 0.33, 8, 16), (64, 0.99, 8, 56), (64, 0.999, 1, 63), (8, 0.99, 8, 0)],
)
def test_distiller_s_counts(filters, level, step, removed):
    mask = make_mask(torch.rand(filters, 3, 3, 3), parse_pattern(f"filter/{step}"), level)
    assert int((~mask).flatten(1).all(1).sum()) == removed


@given(
    st.sampled_from(["filter", "channel", "row", "column"]),
    st.integers(1, 70),
    st.integers(1, 16),
    st.floats(0, 1),
    st.sampled_from(["floor", "ceil", "nearest", "complement", "percentile"]),
)
def test_a_multiple_remains_and_never_nothing(word, count, step, level, rounding):
    pattern = parse_pattern(f"{word}/{step}")
    shape = (count, 3) if word in ("filter", "column") else (3, count)
    mask = make_mask(torch.rand(shape), pattern, level, rounding)
    kept = mask.any(1 if word in ("filter", "column") else 0)
    remaining = int(kept.sum())
    assert remaining >= min(step, count)
    assert remaining % step == 0 or remaining == count
    if rounding == "floor":
        assert count - remaining <= level * count + 1e-6


def test_rows_are_input_features_and_columns_output_features():
    weight = torch.ones(4, 6)
    weight[:, 2] = 0.1
    assert not make_mask(weight, parse_pattern("row"), 1 / 6)[:, 2].any()
    weight = torch.ones(4, 6)
    weight[3] = 0.1
    assert not make_mask(weight, parse_pattern("column"), 1 / 4)[3].any()


def test_channels_of_grouped_convolutions_are_those_of_one_group():
    scores = torch.ones(6, 2, 3, 3)  # 2 groups of 3 filters x 2 channels
    scores[3:, 1] = 0.1
    mask = make_mask(scores, parse_pattern("channel"), 0.25, groups=2)
    assert mask[:3].all() and mask[3:, 0].all() and not mask[3:, 1].any()


@pytest.mark.parametrize("spec", ["row", "column"])
def test_rows_and_columns_are_those_of_linear_layers(spec):
    assert "linear layers" in (parse_pattern(spec).applies((8, 8, 3, 3)) or "")


@pytest.mark.parametrize("spec", ["filter", "channel"])
def test_depthwise_convolutions_are_not_cut_alone(spec):
    assert "together with the layer before" in (parse_pattern(spec).applies((8, 1, 3, 3), 8, "depthwise") or "")


def test_a_multiple_of_nothing_is_refused():
    with pytest.raises(SparsityError, match="multiple of 1 or more"):
        parse_pattern("filter/0")
