"""Several plans for one network: apart, together, and in groups."""

import pytest
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import plan_sparsity
from secateur.sparsity.parts import as_part, check_disjoint, in_groups, parts_table, totals


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8, 10))


def plans(*parts):
    model = network()
    return [as_part(plan_sparsity(model, level, "unstructured", base="selected", only=only)) for level, *only in parts]


def test_layers_of_other_parts_have_their_reason():
    first, second = plans((0.5, "1", "2"), (0.25, "4"))
    assert first.levels == {"1": 0.5, "2": 0.5} and second.levels == {"4": 0.25}
    assert first.skipped == {"0": "not in this part", "4": "not in this part"}


def test_a_layer_in_two_parts_is_named():
    with pytest.raises(SparsityError, match="2: belongs to part 1 and to part 3"):
        check_disjoint(plans((0.5, "1", "2"), (0.5, "4"), (0.5, "2", "0")))
    check_disjoint(plans((0.5, "1", "2"), (0.5, "4")))


def test_totals_are_those_of_the_network():
    """12 + 32 + 64 + 80 weights; half of 32 and 64, a quarter of 80 go."""
    both = plans((0.5, "1", "2"), (0.25, "4"))
    assert totals(both) == (16 + 32 + 20, 188)
    text = parts_table(both)
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    assert rows["2"][3:] == ["8x8x1x1", "1", "unstructured", "50.00", "32", "64"] or rows["2"][-2:] == ["32", "64"]
    assert rows["0"][-4:] == ["not", "in", "this", "part"]
    assert rows["total"][1:4] == ["36.17", "68", "188"]
    assert "part 2: pattern unstructured, target 25.00 %" in text


def test_groups_cut_the_layers_in_their_order():
    both = plans((0.5, "1", "4"), (0.25, "2", "0"))
    groups = in_groups(both, 3)
    assert [{n: list(plan.levels) for n, plan in group.items()} for group in groups] == [
        {0: ["1"], 1: ["0", "2"]},
        {0: ["4"]},
    ]
    assert groups[0][0].skipped["4"] == "in another group" and groups[0][0].zeros == 16
    assert [list(plan.levels) for group in in_groups(both, 100) for plan in group.values()] == [["1", "4"], ["0", "2"]]
    assert len(in_groups(both, 1)) == 4
