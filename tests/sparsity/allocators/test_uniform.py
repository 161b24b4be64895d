"""Uniform levels, for all layers, for convolutions only, and as a narrower network has them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import Layer, allocate, layers_of, levels_of_small, plan_sparsity


def layers(*shapes):
    return [Layer(f"l{i}", "conv" if len(s) > 2 else "linear", s) for i, s in enumerate(shapes)]


@given(st.floats(0, 0.98))
def test_every_layer_gets_the_target(sparsity):
    found = allocate(layers((8, 4, 3, 3), (100, 8), (5, 5)), sparsity)
    assert found.levels == pytest.approx(dict.fromkeys(("l0", "l1", "l2"), sparsity))


def test_structured_uniform_leaves_linear_layers_dense():
    found = layers((8, 4, 3, 3), (16, 8, 3, 3), (10, 16))
    selected = allocate(found, 0.4, "structured_uniform", base="selected")
    assert selected.levels == pytest.approx({"l0": 0.4, "l1": 0.4})
    assert selected.skipped == {"l2": "structured_uniform prunes convolutions only"}
    everything = allocate(found, 0.4, "structured_uniform")
    assert everything.achieved == pytest.approx(0.4, abs=1e-12)
    assert everything.levels["l0"] == pytest.approx(0.4 * (1440 + 160) / 1440)


def test_a_narrower_network_gives_the_share_of_filters_it_lacks():
    def network(*widths: int) -> nn.Module:
        sides = (3, *widths)
        convolutions = [nn.Conv2d(i, o, 3) for i, o in pairwise(sides)]
        return nn.Sequential(*convolutions, nn.Linear(widths[-1], 10))

    dense = network(16, 32, 40)
    levels = levels_of_small(layers_of(dense), layers_of(network(12, 8, 40)))
    assert levels == {"0": 0.25, "1": 0.75}
    plan = plan_sparsity(dense, None, "unstructured", allocation="listed", levels=levels, include_first=True)
    assert plan.levels == levels and plan.skipped["2"] == "not in the list of levels"
    assert (
        plan.sparsity == plan.achieved == pytest.approx((0.25 * 16 * 27 + 0.75 * 32 * 144) / (432 + 4608 + 11520 + 400))
    )


def test_a_network_that_is_not_narrower_is_refused():
    wide, narrow = layers((16, 3, 3, 3)), layers((8, 3, 3, 3))
    with pytest.raises(SparsityError, match=r"l0: the small network has 16 filters there, over 8\."):
        levels_of_small(narrow, wide)
    with pytest.raises(SparsityError, match="the small network does not fit"):
        levels_of_small([*wide, *layers((4, 4), (4, 4))[1:]], narrow)
