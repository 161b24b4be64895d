"""Ids of channels: union, freezing, members and segments, on arrays written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.channels.ids import ChannelIds
from secateur.errors import SparsityError


def image(atoms, height=2, width=2):
    """Ids of a value (1, channels, height, width)."""
    return np.broadcast_to(atoms[None, :, None, None], (1, len(atoms), height, width))


def conv(ids, x, name, out):
    ids.member(f"{name}.weight", 1, ids.along(x, 1), "consumer")
    return image(ids.produced(f"{name}.weight", 0, out))


def test_a_chain_has_one_group_between_two_layers():
    ids = ChannelIds()
    x = image(ids.new(3))
    ids.freeze(x, "input of the network")
    hidden = conv(ids, x, "a", 4)
    ids.freeze(conv(ids, hidden, "b", 2), "output of the network")
    groups = ids.groups()
    assert [(group.name, group.size, group.frozen) for group in groups.groups] == [
        ("into a", 3, "input of the network"),
        ("a", 4, None),
        ("b", 2, "output of the network"),
    ]
    free = groups["a"]
    assert [(member.tensor, member.axis, member.role) for member in free.members] == [
        ("a.weight", 0, "producer"),
        ("b.weight", 1, "consumer"),
    ]
    assert free.members[0].positions.tolist() == [[0], [1], [2], [3]]


def test_an_addition_makes_one_group_of_two_layers():
    ids = ChannelIds()
    x = image(ids.new(3))
    ids.union(conv(ids, x, "a", 4), conv(ids, x, "b", 4))
    assert ids.groups()["b"].producers == ("a", "b")


def test_one_channel_beside_many_leaves_them_apart():
    ids = ChannelIds()
    x = image(ids.new(3))
    many, one = conv(ids, x, "a", 4), conv(ids, x, "gate", 1)
    result = ids.union(one, many)
    assert np.array_equal(ids.roots(result), ids.roots(many))
    assert ids.groups()["a"].size == 4 and ids.groups()["a"].frozen is None
    assert ids.groups()["gate"].frozen == "one channel that meets all channels of another value"


def test_channels_along_two_axes_still_meet_each_other():
    ids = ChannelIds()
    rows = ids.produced("rows.weight", 0, 4)[:, None]
    columns = ids.produced("columns.weight", 0, 3)[None, :]
    ids.union(rows, columns)
    assert [group.size for group in ids.groups().groups] == [1]


def test_a_flatten_gives_every_unit_several_positions():
    ids = ChannelIds()
    hidden = conv(ids, image(ids.new(1)), "a", 3)
    flat = hidden.reshape(1, -1)
    ids.member("fc.weight", 1, ids.along(flat, 1), "consumer")
    assert ids.groups()["a"].members[1].positions.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_permutation_is_followed():
    ids = ChannelIds()
    hidden = conv(ids, image(ids.new(1)), "a", 6)
    shuffled = hidden.reshape(1, 2, 3, 2, 2).transpose(0, 2, 1, 3, 4).reshape(1, 6, 2, 2)
    conv(ids, shuffled, "b", 1)
    assert ids.groups()["a"].members[1].positions.ravel().tolist() == [0, 2, 4, 1, 3, 5]


def test_what_meets_a_fixed_value_is_frozen_and_the_rest_is_not():
    ids = ChannelIds()
    x = image(ids.new(1))
    narrow = conv(ids, x, "a", 2)
    padded = np.concatenate([np.full((1, 1, 2, 2), -1), narrow, np.full((1, 1, 2, 2), -1)], axis=1)
    ids.union(conv(ids, x, "b", 4), padded, "meets padding")
    found = {group.name: (group.producers, group.size, group.frozen) for group in ids.groups().groups}
    assert found["a"] == (("a", "b"), 2, None)
    assert found["b"] == (("b",), 2, "meets padding")


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 2, 2), (2, 2)])
def test_a_fixed_value_that_is_the_same_for_all_channels_freezes_nothing(shape):
    ids = ChannelIds()
    hidden = conv(ids, image(ids.new(1)), "a", 2)
    result = ids.union(hidden, np.full(shape, -1))
    assert np.array_equal(result, hidden)
    assert ids.groups()["a"].frozen is None


def test_channels_that_differ_in_space_become_one():
    ids = ChannelIds()
    fine = conv(ids, image(ids.new(1)), "a", 4)[:, :, :1, :1].reshape(1, 1, 2, 2)  # a pixel shuffle by two
    ids.member("b.weight", 1, ids.along(fine, 1), "consumer")
    assert ids.groups()["a"].size == 1


def test_a_layer_applied_twice_has_one_set_of_channels():
    ids = ChannelIds()
    x = image(ids.new(4))
    first = conv(ids, x, "a", 4)
    second = conv(ids, first, "a", 4)
    assert np.array_equal(first, second)
    assert ids.groups()["a"].size == 4  # its input is its output: channel i is one of both


def test_segments_of_a_grouped_convolution():
    ids = ChannelIds()
    hidden = conv(ids, image(ids.new(1)), "a", 6)
    ids.balanced(ids.along(hidden, 1).reshape(3, 2))
    group = ids.groups()["a"]
    assert (group.segments, group.segment.tolist()) == (3, [0, 0, 1, 1, 2, 2])


def test_segments_that_cross_evenly_are_refined():
    ids = ChannelIds()
    atoms = ids.along(conv(ids, image(ids.new(1)), "a", 8), 1)
    ids.balanced(atoms.reshape(2, 4))
    ids.balanced(atoms.reshape(4, 2).T)
    group = ids.groups()["a"]
    assert (group.segments, group.size) == (4, 8)
    assert group.segment.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


def test_segments_of_two_groups_are_united_place_by_place():
    ids = ChannelIds()
    x = image(ids.new(1))
    a, b = conv(ids, x, "a", 3), conv(ids, x, "b", 3)
    ids.balanced([ids.along(a, 1), ids.along(b, 1)])
    group = ids.groups()["b"]
    assert group.producers == ("a", "b") and group.size == 3 and group.segments == 1


def test_segments_beside_numbers_of_no_channel_are_frozen():
    ids = ChannelIds()
    atoms = ids.along(conv(ids, image(ids.new(1)), "a", 2), 1)
    ids.balanced([atoms, np.array([-1, -1])])
    assert "fixed size" in (ids.groups()["a"].frozen or "")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_union_find_agrees_with_sets(pairs):
    ids = ChannelIds()
    atoms = ids.new(31)
    classes = [{i} for i in range(31)]
    for a, b in pairs:
        ids.union(atoms[[a]], atoms[[b]])
        joined = classes[a] | classes[b]
        for i in joined:
            classes[i] = joined
    assert ids.roots(atoms).tolist() == [min(found) for found in classes]


def test_positions_of_a_layer_applied_twice_add_up():
    ids = ChannelIds()
    ids.tensor("a.weight", (4, 3, 1, 1), 10)
    ids.tensor("a.weight", (4, 3, 1, 1), 10)
    ids.tensor("a.running_mean", (4,), parameter=False)
    groups = ids.groups()
    assert (groups.parameters, groups.macs) == (12, 240)


def test_groups_are_a_table_with_reasons():
    ids = ChannelIds()
    x = image(ids.new(3))
    ids.freeze(x, "input of the network")
    conv(ids, x, "a", 4)
    text = str(ids.groups())
    assert "frozen: input of the network" in text
    assert text.endswith("4 of 7 channels may go, in 1 of 2 groups")


def test_an_unknown_group_is_named_with_its_neighbours():
    ids = ChannelIds()
    conv(ids, image(ids.new(3)), "layer1", 4)
    with pytest.raises(SparsityError, match="Did you mean 'layer1'"):
        ids.groups()["layr1"]


def test_places_that_are_united_beside_places_that_stay_come_to_an_end():
    """Parts of two units whose first place crosses another cut and whose second has no channel in one part."""
    ids = ChannelIds()
    atoms = ids.new(4)
    other = ids.new(2)
    ids.member("a.weight", 0, atoms, "producer")
    ids.member("b.weight", 0, other, "producer")
    ids.balanced(np.array([[atoms[0], atoms[1]], [other[0], -1]]))
    groups = ids.groups()
    assert sum(group.size for group in groups.groups) == 5
    assert any(group.frozen for group in groups.groups)


def test_table_counts_channels_where_a_unit_has_several():
    ids = ChannelIds()
    hidden = conv(ids, image(ids.new(3)), "a", 8)
    halves = conv(ids, hidden, "b", 4)
    ids.union(np.concatenate([halves, halves], axis=1), hidden)
    conv(ids, hidden, "c", 1)
    groups = ids.groups()
    assert (groups["a"].size, groups["a"].channels) == (4, 8)
    (row,) = (line for line in str(groups).splitlines() if line.startswith("a "))
    assert row.split()[-1] == "8"
    assert str(groups).endswith("11 of 12 channels may go, in 2 of 3 groups")  # c is one unit
