"""Ramps at points where their shape is known in closed form."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import AgpEpochs, Cosine, Exponential, Linear, Polynomial

SHAPES = [Linear, Polynomial, Cosine, Exponential]


def levels(schedule):
    return [schedule.sparsity_at(t) for t in range(schedule.end + 1) if schedule.due(t)]


def test_linear():
    assert levels(Linear(0, 5, 1, 0.0, 0.8)) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_polynomial_of_two():
    # (1 - k/4)^2 = 1, 9/16, 1/4, 1/16, 0
    found = levels(Polynomial(0, 5, 1, 0.0, 0.8, exponent=2.0))
    assert found == pytest.approx([0.0, 0.8 * 7 / 16, 0.6, 0.75, 0.8])


def test_a_polynomial_of_three_is_agp():
    one, other = Polynomial(1, 29, 2, 0.05, 0.87), AgpEpochs(1, 29, 2, 0.05, 0.87)
    assert [one.sparsity_at(e) for e in range(40)] == pytest.approx([other.sparsity_at(e) for e in range(40)])


def test_cosine():
    half = math.sqrt(0.5)
    assert levels(Cosine(0, 5, 1, 0.0, 0.8)) == pytest.approx([0.0, 0.4 * (1 - half), 0.4, 0.4 * (1 + half), 0.8])


def test_exponential_removes_the_same_share_at_every_step():
    found = levels(Exponential(0, 4, 1, 0.2, 0.9))
    left = [1 - level for level in found]
    assert found[0] == pytest.approx(0.2) and found[-1] == 0.9
    assert [b / a for a, b in itertools.pairwise(left)] == pytest.approx([0.5] * 3)


@given(st.sampled_from(SHAPES), st.integers(0, 20), st.integers(1, 40), st.integers(1, 9))
def test_a_ramp_starts_and_ends_exactly(shape, start, length, every):
    end = start + length
    if (length - 1) // every == 0:
        with pytest.raises(SparsityError, match="fewer than two steps"):
            shape(start, end, every, 0.25, 0.75, "iteration")
        return
    ramp = shape(start, end, every, 0.25, 0.75, "iteration")
    due = [t for t in range(end + 9) if ramp.due(t)]
    assert due[0] == start and due[-1] < end <= due[-1] + every
    assert ramp.sparsity_at(start) == pytest.approx(0.25, abs=1e-15)
    assert ramp.sparsity_at(due[-1]) == 0.75 == ramp.sparsity_at(end + 99)
    assert start == 0 or ramp.sparsity_at(start - 1) == 0.0
    assert ramp.unit == "iteration"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(0, 9, 1, 0.5, 0.5),
        lambda: Linear(0, 9, 0, 0.0, 0.5),
        lambda: Linear(-1, 9, 1, 0.0, 0.5),
        lambda: Cosine(0, 9, 1, 0.0, 1.5),
        lambda: Polynomial(0, 9, 1, 0.0, 0.5, exponent=0.0),
        lambda: Exponential(0, 9, 1, 0.0, 1.0),
    ],
)
def test_contradictions_are_sentences(make):
    with pytest.raises(SparsityError, match=r"\.$"):
        make()
