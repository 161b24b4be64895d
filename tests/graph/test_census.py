"""The census as data: bases, reductions, tables, JSON."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import ArtifactError, SparsityError
from secateur.graph import BASES, Census, LayerCount


def layer(name: str, kind: str, weights: int, nonzeros: int, positions: int, **more) -> LayerCount:
    return LayerCount(name, kind, (weights, 1), 1, (3, 8, 8), (4, 8, 8), positions, weights, nonzeros, **more)


CENSUS = Census(
    layers=(
        layer("conv", "conv", 100, 60, 10, channels=4, zero_channels=1),
        layer("fc", "linear", 300, 240, 1, channels=6, zero_channels=0, note="shares its weight with head"),
    ),
    input_shape=(3, 8, 8),
    parameters=420,
    dynamic_macs=77,
    other_zeros=5,
    notes=("not counted: 1 operator LSTM",),
)


def test_totals_and_reductions():
    assert (CENSUS.weights, CENSUS.nonzeros, CENSUS.macs, CENSUS.sparse_macs) == (400, 300, 1300, 840)
    assert CENSUS.sparsity == 0.25
    assert CENSUS.parameter_reduction == pytest.approx(400 / 300)
    assert CENSUS.compute_reduction == pytest.approx(1300 / 840)


@pytest.mark.parametrize(
    ("base", "zeros", "total"),
    [
        ("conv_linear", 100, 400),
        ("selected", 40, 100),
        ("conv_only", 40, 100),
        ("all_params", 105, 420),
        ("macs", 460, 1300),
        ("channels", 1, 10),
    ],
)
def test_bases(base: str, zeros: int, total: int):
    count = CENSUS.base(base, selected=["conv"])
    assert (count.zeros, count.total) == (zeros, total)
    assert count.sparsity == zeros / total and base in str(count)
    assert base in BASES


def test_unknown_bases_and_layers_name_the_nearest():
    with pytest.raises(SparsityError, match="Did you mean 'conv_linear'"):
        CENSUS.base("convlinear")
    with pytest.raises(SparsityError, match="Did you mean 'conv'"):
        CENSUS.base("selected", selected=["con"])


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1), st.integers(0, 10**4)), max_size=5))
def test_json_round_trip(rows):
    census = Census(
        tuple(layer(str(i), "conv", n, int(n * density), p) for i, (n, density, p) in enumerate(rows)),
        (3, 8, 8),
        0,
    )
    text = json.dumps(census.to_dict(), allow_nan=False)
    assert Census.from_dict(json.loads(text)) == census


def test_extremes_have_no_nan():
    empty = Census((), (3, 8, 8), 0)
    assert (empty.sparsity, empty.parameter_reduction, empty.compute_reduction) == (0, 1, 1)
    dead = Census((layer("conv", "conv", 10, 0, 3),), (3, 8, 8), 10)
    assert math.isinf(dead.parameter_reduction) and dead.to_dict()["totals"]["parameter_reduction"] is None
    assert "infinite" in str(dead) and str(empty)


@pytest.mark.parametrize(
    "damage",
    [{"layers": 1}, {"layers": [{"kind": "lstm"}]}, {"layers": [{"kind": "conv"}]}, {"parameters": "x"}],
)
def test_something_else_is_not_a_census(damage):
    with pytest.raises(ArtifactError, match="not a census"):
        Census.from_dict(CENSUS.to_dict() | damage)
    with pytest.raises(ArtifactError, match="not a census"):
        Census.from_dict([1])


def test_tables_name_their_base_and_carry_the_notes():
    text = str(CENSUS)
    assert "base conv_linear" in text and "one image of 3×8×8" in text
    assert "fc: shares its weight with head" in text and "not counted: 1 operator LSTM" in text
    assert "dynamic MACs" in text and "1.5476×" in text
    lines = text.splitlines()
    assert lines[2].split() == ["conv", "conv", "100×1", "10", "100", "60", "40.00", "1,000", "600"]
    assert [len(line) for line in lines[1:2]] == [len(lines[4])]


def test_statistics_line_and_compute_summary():
    line = CENSUS.statistics()
    for words in (
        "parameters 420",
        "nonzeros 300",
        "sparsity 25.00000 %",
        "MACs 1,300",
        "remaining MACs 840",
        "1.5476×",
    ):
        assert words in line
    summary = CENSUS.compute_summary().splitlines()
    assert summary[2].split() == ["conv", "conv", "3×8×8", "192", "4×8×8", "256", "100", "1,000"]
    assert summary[-1].split() == ["total", "400", "1,300"]


def test_relative_to_the_dense_network_removed_channels_count_as_zeros():
    smaller = Census(
        layers=(
            layer("conv", "conv", 50, 45, 10, channels=2, zero_channels=1),
            layer("fc", "linear", 150, 150, 1, channels=6),
        ),
        input_shape=(3, 8, 8),
        parameters=212,
    )
    found = smaller.relative_to(CENSUS)
    assert (found.weights, found.nonzeros, found.macs, found.sparse_macs) == (400, 195, 1300, 600)
    assert found.layer("conv").zero_channels == 3
    # 420 - 400 = 20 other parameters before, 212 - 200 = 12 now.
    assert found.base("all_params").zeros == 205 + 8
    assert CENSUS.relative_to(CENSUS).base("macs") == CENSUS.base("macs")


def test_a_layer_that_is_gone_counts_as_zero_and_one_that_is_new_is_an_error():
    only_fc = Census((CENSUS.layers[1],), (3, 8, 8), 310)
    assert only_fc.relative_to(CENSUS).layer("conv").nonzeros == 0
    with pytest.raises(SparsityError, match="conv"):
        CENSUS.relative_to(only_fc)
