"""Values and weights of the exported file are found in the network by their numbers."""

import pytest

from rounded_networks import everything
from secateur.quantization.training.places import map_of
from secateur.sparsity import attach_masks_
from secateur.sparsity.layers import weighted_modules


@pytest.fixture(scope="module")
def found():
    model = everything()
    attach_masks_(model, ["stem"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = map_of(model, (3, 12, 12))
    assert all((before[name] == value).all() for name, value in model.state_dict().items()) and not found.closed
    return found


def test_every_value_has_its_place(found):
    values = [name for node in found.file.graph.node for name in node.output]
    floating = [name for name in values if name in found.values]
    assert str(found.values["input"]) == "x"
    places = {name: str(found.values[name]) for name in floating}
    assert places["residual.Relu"] == "residual:relu"
    assert places["residual.conv2"] == "residual:bn2"  # the norm is folded
    assert places["inverted.conv.6"] == "inverted.conv:_7"
    assert any(place == "shuffle:cat" for place in places.values())
    convolutions = [node.output[0] for node in found.file.graph.node if node.op_type in ("Conv", "Relu", "Clip", "Add")]
    assert set(convolutions) <= set(floating)


def test_every_weight_has_its_layer_and_norm(found):
    layers = {place.layer: place for place in found.weights.values()}
    assert set(layers) == set(weighted_modules(everything()))
    assert layers["stem"].norm == "norm" and layers["inverted.conv.3"].norm == "inverted.conv.4"
    assert layers["shuffle.branch.0"].norm == "shuffle.branch.1" and layers["classifier"].norm is None
    assert all((place.filter_axis, place.torch_axis) == (0, 0) for place in layers.values())
