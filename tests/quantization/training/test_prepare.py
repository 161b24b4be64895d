"""What prepare_ rounds, what it leaves float, and what it says about it."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from rounded_networks import everything, images
from secateur.errors import QuantizationError
from secateur.quantization.training import prepare_
from secateur.quantization.training.activation_rules.affine import MovingRange
from secateur.quantization.training.activation_rules.pact import LearnedClip
from secateur.quantization.training.prepare import bits_of
from secateur.recipe.schema.quantization_training import LayerBits, QuantizationTraining
from secateur.sparsity import attach_masks_, set_mask_

SIZE = (3, 12, 12)


def test_the_first_override_that_fits_counts():
    config = QuantizationTraining(
        overrides={
            "layer1.*": LayerBits(weights=4),
            "*.conv2": LayerBits(weights=None, activations=3),
            "*": LayerBits(activations=6),
        }
    )
    assert bits_of(config, ["layer1.0.conv2"], "weights", 8) == 4
    assert bits_of(config, ["layer1.0.conv2"], "activations", 8) == 3
    assert bits_of(config, ["layer2.0.conv2"], "weights", 8) is None
    assert bits_of(config, ["fc"], "weights", 8) == 8 and bits_of(config, ["fc"], "activations", 8) == 6


@pytest.fixture(scope="module")
def pact(places):
    """PACT with everything that a recipe can choose."""
    model = everything()
    attach_masks_(model, ["residual.conv1"])
    mask = torch.rand(8, 8, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    set_mask_(model.residual.conv1, mask)
    config = QuantizationTraining(
        scheme="pact",
        weight_bits=4,
        activation_bits=5,
        include_first=False,
        keep_float=("inverted.conv.3",),
        overrides={"classifier": LayerBits(weights=2), "residual:relu": LayerBits(activations=3)},
    )
    return model, prepare_(model, config, SIZE, [images(), (images(seed=2), torch.zeros(8))], places)


def test_rules_and_bits(pact):
    prepared = pact[1]
    layers = {prepared.map.weights[name].layer: rounding.rule.bits for name, rounding in prepared.weights.items()}
    assert layers["classifier"] == 2 and layers["residual.conv1"] == layers["shuffle.branch.0"] == 4
    assert "stem" not in layers and "inverted.conv.3" not in layers
    assert prepared.floats["stem"] == "the first or the last layer"
    assert prepared.floats["inverted.conv.3"] == "kept by 'inverted.conv.3'"
    rules = {str(place): group.rule for group in prepared.groups for place in group.places}
    assert isinstance(rules["residual:relu"], LearnedClip) and rules["residual:relu"].bits == 3
    assert isinstance(rules["residual:relu_1"], LearnedClip) and rules["residual:relu_1"].bits == 5
    linear = [rule for rule in rules.values() if isinstance(rule, MovingRange)]
    assert linear and all(rule.batches == 2 and rule.high > rule.low for rule in linear)
    text = str(prepared)
    assert "residual:relu" in text and "stays float: kept by" in text


def test_masks_hold_in_front_of_the_rules(pact):
    model, _ = pact
    weight = model.residual.conv1.weight
    assert not weight[~model.residual.conv1.parametrizations.weight[0].mask].any() and weight.any()
    model.train()
    model(images()).sum().backward()
    model.eval()
    original = model.residual.conv1.parametrizations.weight.original
    assert original.grad.any() and not original.grad[weight == 0][:1].isnan().any()


def test_closing_leaves_the_network_as_it_was(pact):
    model, prepared = pact
    with pytest.raises(QuantizationError, match="prepared already"):
        prepare_(model, QuantizationTraining(), SIZE)
    state = {name: value.clone() for name, value in model.state_dict().items() if "residual.conv1" not in name}
    prepared.close_()
    plain = everything()
    plain.load_state_dict(
        {name: value for name, value in model.state_dict().items() if name in plain.state_dict()}, strict=False
    )
    plain.residual.conv1.weight.data.copy_(model.residual.conv1.weight)
    assert torch.equal(model(images()), plain(images()))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items() if name in state)
    assert not hasattr(model, "rounded_activations")
    assert type(model.inverted.conv[0]) is nn.Conv2d and len(model.residual.conv1.parametrizations.weight) == 1


def test_nothing_to_round_and_strange_weights():
    with pytest.raises(QuantizationError, match="neither weights nor activations"):
        prepare_(nn.Sequential(nn.ReLU()).append(nn.PReLU()), QuantizationTraining(), (3, 4, 4))
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 2))
    parametrize.register_parametrization(model[0], "weight", nn.Softplus())
    with pytest.raises(QuantizationError, match="0: its weight is computed by Softplus"):
        prepare_(model, QuantizationTraining(), (3, 4, 4))


def test_shared_weights_stay_float():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].weight = model[0].weight
    network = nn.Sequential(nn.Flatten(), model)
    prepared = prepare_(network, QuantizationTraining(), (1, 2, 2))
    assert [prepared.map.weights[name].layer for name in prepared.weights] == ["1.4"]
    assert any("shares its weight with 1." in reason for reason in prepared.floats.values())
