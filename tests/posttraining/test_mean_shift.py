"""Shifts of the mean without Gram matrices: the same as bias correction with dense inputs, masks and weights stay."""

import copy

import pytest
import torch

from pruned_pair import NAMES, PREPROCESSING, batches, grams_of, network, outputs, pruned
from secateur.errors import PosttrainingError
from secateur.posttraining import TorchSubject, correct_biases_, shift_means_
from secateur.sparsity import stored_weight
from secateur.sparsity.layers import weighted_modules


@pytest.mark.parametrize("bias", [True, False])
def test_the_same_as_with_gram_matrices(bias):
    dense = network(bias)
    model, other = pruned(dense), pruned(dense)
    hidden = {name: stored_weight(module).clone() for name, module in weighted_modules(model).items()}
    shift_means_(model, dense, batches, NAMES)
    correct_biases_(TorchSubject(other, PREPROCESSING), TorchSubject(dense, PREPROCESSING), grams_of(dense))
    for name in NAMES:
        torch.testing.assert_close(model.get_submodule(name).bias, other.get_submodule(name).bias, atol=1e-5, rtol=1e-4)
        # What is behind the masks may come back, and so it stays.
        assert torch.equal(stored_weight(model.get_submodule(name)), hidden[name])


def test_a_norm_takes_the_shift_of_a_layer_without_bias():
    dense = network(bias=False, norm=True)
    model, gained = pruned(dense), pruned(dense)
    shift_means_(model, dense, batches, ["0"], norms={"0": "1"})
    shift_means_(gained, dense, batches, ["0"])
    assert model[0].bias is None and gained[0].bias is not None
    images = next(iter(batches()))
    torch.testing.assert_close(model(images), gained(images), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(outputs(model, "1").mean(1), outputs(dense, "1").mean(1), atol=1e-5, rtol=1e-4)


def test_nothing_to_shift_and_nothing_to_measure_with():
    dense = network()
    model = pruned(dense)
    before = copy.deepcopy(model.state_dict())
    assert shift_means_(model, dense, list, []) == {}
    with pytest.raises(PosttrainingError, match="there are none"):
        shift_means_(model, dense, list, NAMES)
    with pytest.raises(PosttrainingError, match="9: both networks"):
        shift_means_(model, dense, batches, ["9"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
