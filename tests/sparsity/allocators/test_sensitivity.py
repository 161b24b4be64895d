"""Levels from a sensitivity table: by a bound, and to a target."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import AllocationOptions, Layer, SensitivityRow, SensitivityTable, allocate

LEVELS = (0.0, 0.25, 0.5, 0.75, 0.95)


def table(costs: dict[str, tuple[float, ...]]) -> SensitivityTable:
    dense = SensitivityRow("", 0.0, 0.0, None, None, None, 0.0)
    rows = tuple(
        SensitivityRow(layer, level, level, None, None, None, cost)
        for layer, own in costs.items()
        for level, cost in zip(LEVELS, own, strict=True)
    )
    return SensitivityTable("output_error", "unstructured", "magnitude", 10, dense, rows, {})


def layers(*sizes: int) -> list[Layer]:
    return [Layer(f"l{i}", "linear", (1, size)) for i, size in enumerate(sizes)]


EXAMPLE = table({"l0": (0, 0.1, 0.2, 0.4, 3.0), "l1": (0, 1.0, 2.0, 3.0, 4.0), "l2": (0, 0.3, 0.1, 0.5, 0.6)})


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(0.2, (0.25, 0.0, 0.5)), (0.21, (0.5, 0.0, 0.5)), (0.55, (0.75, 0.0, 0.75)), (9.0, (0.95, 0.95, 0.95))],
)
def test_the_largest_level_below_the_bound(bound, expected):
    options = AllocationOptions(sensitivity=EXAMPLE, bound=bound)
    found = allocate(layers(10, 10, 10), None, "sensitivity", options=options)
    assert tuple(found.levels.values()) == pytest.approx(expected)
    assert found.achieved == pytest.approx(sum(expected) / 3)


def test_the_cap_holds_for_a_bound_too():
    options = AllocationOptions(sensitivity=EXAMPLE, bound=9.0, cap=0.6)
    found = allocate(layers(10, 10, 10), None, "sensitivity", options=options)
    assert found.levels == pytest.approx(dict.fromkeys(("l0", "l1", "l2"), 0.6))
    assert found.capped == ("l0", "l1", "l2")


costs_of_layer = st.lists(st.floats(0, 5), min_size=4, max_size=4).map(lambda rest: (0.0, *rest))


@settings(deadline=None)
@given(st.lists(costs_of_layer, min_size=1, max_size=5), st.floats(0, 0.94), st.floats(0, 0.94), st.data())
def test_the_target_is_met_and_levels_are_monotone_in_it(costs, one, other, data):
    found = layers(*data.draw(st.lists(st.integers(1, 500), min_size=len(costs), max_size=len(costs))))
    options = AllocationOptions(sensitivity=table({f"l{i}": own for i, own in enumerate(costs)}))
    low, high = (allocate(found, s, "sensitivity", options=options) for s in sorted((one, other)))
    assert (low.achieved, high.achieved) == pytest.approx(tuple(sorted((one, other))), abs=1e-4)
    assert all(low.levels[name] <= high.levels[name] + 1e-9 for name in low.levels)


def test_layers_that_cost_little_lose_much():
    options = AllocationOptions(sensitivity=EXAMPLE)
    found = allocate(layers(10, 10, 10), 0.5, "sensitivity", options=options)
    assert found.levels["l1"] < found.levels["l0"] and found.levels["l1"] < found.levels["l2"]
    assert len(found.trials) == 1 and found.trials[0].achieved == pytest.approx(0.5)


def test_layers_without_a_measurement_stay_dense():
    options = AllocationOptions(sensitivity=table({"l0": (0, 0, 0, 0, 0)}))
    found = allocate(layers(10, 10), 0.5, "sensitivity", base="selected", options=options)
    assert found.skipped == {"l1": "not in the sensitivity table"} and found.levels == pytest.approx({"l0": 0.5})


def test_what_is_missing_is_said():
    with pytest.raises(SparsityError, match=r"needs the table of `secateur sensitivity`"):
        allocate(layers(10), 0.5, "sensitivity")
    options = AllocationOptions(sensitivity=table({"l0": (0, 0, 0, 0, 0)}))
    with pytest.raises(SparsityError, match=r"at most 0\.9500 .* Measure higher levels"):
        allocate(layers(10), 0.97, "sensitivity", options=options)
