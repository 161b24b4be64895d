"""Gradual pruning: the values that Distiller's, DeGirum's, PocketFlow's and MSBench's files lead to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import AgpEpochs, AgpIterations, CubicSteps


@pytest.mark.parametrize(
    ("schedule", "epochs", "values"),
    [
        (
            AgpEpochs(0, 30, 2, 0.05, 0.70),
            range(0, 29, 2),
            ".05 .179574 .290671 .384712 .46312 .527314 .578717 .61875 .648834 .67039 .68484 .693604 .698105 "
            ".699763 .70",
        ),
        (
            AgpEpochs(1, 29, 2, 0.05, 0.87),
            range(1, 28, 2),
            ".05 .225048 .373223 .496764 .597911 .678903 .74198 .789381 .823345 .846113 .859923 .867014 .869627 .87",
        ),
        (
            AgpEpochs(0, 35, 1, 0.05, 0.85),
            (0, 1, 5, 10, 17, 25, 33, 34),
            ".05 .118532 .353582 .568624 .75 .835162 .84998 .85",
        ),
        (AgpEpochs(0, 4, 1, 0.3, 0.9), range(4), ".3 .722222 .877778 .9"),
    ],
)
def test_agp_in_epochs_as_published(schedule: AgpEpochs, epochs, values: str):
    for epoch, value in zip(epochs, values.split(), strict=True):
        assert schedule.due(epoch)
        assert schedule.sparsity_at(epoch) == pytest.approx(float(value), abs=5.1e-7)


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 12))
def test_agp_in_epochs_rises_to_the_final_level_exactly(start: int, length: int, every: int):
    end = start + length
    if (length - 1) // every == 0:
        with pytest.raises(SparsityError, match="fewer than two steps"):
            AgpEpochs(start, end, every, 0.05, 0.7)
        return
    schedule = AgpEpochs(start, end, every, 0.05, 0.7)
    due = [epoch for epoch in range(end + 20) if schedule.due(epoch)]
    assert due[0] == start and due[-1] < end <= due[-1] + every
    assert schedule.sparsity_at(start) == pytest.approx(0.05)
    assert schedule.sparsity_at(due[-1]) == 0.7 == schedule.sparsity_at(end + 100)
    levels = [schedule.sparsity_at(epoch) for epoch in range(end + 20)]
    assert levels == sorted(levels)
    # between two scheduled epochs the masks, and so the level in force, stay
    assert all(levels[e] == levels[e - 1] for e in range(start + 1, end + 20) if not schedule.due(e))


@pytest.mark.parametrize(
    ("share", "value"),
    [(0, 0), (0.1, 0), (0.2, 0.433594), (0.3, 0.65625), (0.4, 0.738281), (0.5, 0.75), (1, 0.75)],
)
def test_agp_in_iterations_as_published(share: float, value: float):
    schedule = AgpIterations(10_000, 0.75)
    assert schedule.sparsity_at(int(share * 10_000)) == pytest.approx(value, abs=5.1e-7)


def test_agp_in_iterations_changes_masks_every_so_often_and_ends_exactly():
    schedule = AgpIterations(1000, 0.75, begin=0.1, end=0.5, every=150)
    assert [t for t in range(1001) if schedule.due(t)] == [100, 250, 400, 500]
    assert schedule.sparsity_at(500) == 0.75


@pytest.mark.parametrize(
    ("last_step", "values"),
    # (1 - k/4)^3 = 1, 27/64, 8/64, 1/64, 0;  (1 - k/3)^3 = 1, 8/27, 1/27, 0
    [("n", ".3 .646875 .825 .890625 .9"), ("n-1", ".3 .722222 .877778 .9")],
)
def test_cubic_steps_in_both_conventions(last_step, values: str):
    schedule = CubicSteps(10, 100, 4, 0.3, 0.9, last_step, "iteration")
    due = [t for t in range(1000) if schedule.due(t)]
    assert due == [10 + 100 * k for k in range(len(values.split()))]
    assert [schedule.sparsity_at(t) for t in due] == pytest.approx([float(v) for v in values.split()], abs=5.1e-7)
    assert schedule.sparsity_at(due[-1]) == schedule.sparsity_at(10_000) == 0.9
    assert schedule.sparsity_at(9) == 0.0 and schedule.sparsity_at(109) == schedule.sparsity_at(10)
    assert (schedule.first, schedule.stop, schedule.unit) == (10, due[-1] + 1, "iteration")


@pytest.mark.parametrize(
    "make",
    [
        lambda: AgpEpochs(0, 30, 2, 0.7, 0.7),
        lambda: AgpEpochs(0, 30, 2, 0.0, 1.2),
        lambda: AgpEpochs(0, 30, 0, 0.0, 0.5),
        lambda: AgpIterations(10, 0.5, begin=0.5, end=0.5),
        lambda: AgpIterations(10, 0.5, begin=0.0, end=1.5),
        lambda: AgpIterations(100, 0.5, every=0),
        lambda: AgpIterations(100, 0.5, exponent=0.0),
        lambda: CubicSteps(0, 1, 1, 0.1, 0.5, "n-1"),
        lambda: CubicSteps(0, 1, 0, 0.1, 0.5),
        lambda: CubicSteps(0, 1, 4, 0.6, 0.5),
    ],
)
def test_contradictions_are_sentences(make):
    with pytest.raises(SparsityError, match=r"\.$"):
        make()


def test_units_and_ends():
    assert AgpEpochs(2, 9, 3, 0.1, 0.5).unit == "epoch"
    assert (AgpEpochs(2, 9, 3, 0.1, 0.5).first, AgpEpochs(2, 9, 3, 0.1, 0.5).stop) == (2, 9)
    assert AgpIterations(100, 0.5).unit == "iteration"
    assert (AgpIterations(100, 0.5).first, AgpIterations(100, 0.5).stop) == (10, 51)
