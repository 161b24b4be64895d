"""Bias correction: outputs of a pruned layer have the dense mean, by definition of each form."""

import copy

import pytest
import torch
from torch import nn

from pruned_pair import IMAGES, NAMES, PREPROCESSING, batches, grams_of, network, outputs, pruned
from secateur.errors import PosttrainingError
from secateur.posttraining.bias_correction import correct_biases_
from secateur.posttraining.output_statistics import FreshGrams
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import masks


@pytest.mark.parametrize("bias", [True, False])
def test_dense_inputs(bias):
    """b' = b + (W - W^) m: fed with dense inputs, the layer has the dense mean."""
    dense = network(bias)
    model = pruned(dense)
    found = correct_biases_(TorchSubject(model, PREPROCESSING), TorchSubject(dense, PREPROCESSING), grams_of(dense))
    assert set(found) == set(NAMES)
    for name in NAMES:
        wanted = outputs(dense, name).mean(1)
        probe = copy.deepcopy(dense)
        layer, source = probe.get_submodule(name), model.get_submodule(name)
        layer.weight.data = source.weight.detach().clone()
        layer.bias = nn.Parameter(source.bias.detach().clone())
        torch.testing.assert_close(outputs(probe, name).mean(1), wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[name], source.bias)


def test_it_replaces_the_bias():
    dense = network()
    model = pruned(dense)
    model[2].bias.data += 100.0
    subject, teacher, grams = TorchSubject(model, PREPROCESSING), TorchSubject(dense, PREPROCESSING), grams_of(dense)
    first = correct_biases_(subject, teacher, grams)
    again = correct_biases_(subject, teacher, grams)
    for name in NAMES:
        torch.testing.assert_close(first[name], again[name])
    assert float(model[2].bias.abs().max()) < 50.0


@pytest.mark.parametrize("bias", [True, False])
def test_sparse_inputs_in_order_match_every_mean(bias):
    dense = network(bias)
    model, kept = pruned(dense), None
    subject = TorchSubject(model, PREPROCESSING)
    kept = {name: mask.clone() for name, mask in masks(model).items()}
    before = (outputs(model, "6").mean(1) - outputs(dense, "6").mean(1)).abs().max()
    fresh = FreshGrams(subject, batches, NAMES, limit=None)
    correct_biases_(subject, TorchSubject(dense, PREPROCESSING), grams_of(dense), inputs=fresh)
    for name in NAMES:
        torch.testing.assert_close(outputs(model, name).mean(1), outputs(dense, name).mean(1), atol=1e-4, rtol=1e-4)
    assert before > 1e-2
    for name, mask in masks(model).items():
        assert torch.equal(mask, kept[name])


def test_a_norm_takes_the_shift():
    dense = network(bias=False, norm=True)
    grams = grams_of(dense)
    by_bias, by_norm = pruned(dense), pruned(dense)
    teacher = TorchSubject(dense, PREPROCESSING)
    correct_biases_(TorchSubject(by_bias, PREPROCESSING), teacher, grams)
    for _ in range(2):
        correct_biases_(TorchSubject(by_norm, PREPROCESSING), teacher, grams, into="norm")
    assert by_norm[0].bias is None and by_norm[2].bias is None and by_norm[6].bias is not None
    with torch.no_grad():
        torch.testing.assert_close(by_norm(IMAGES), by_bias(IMAGES), atol=1e-4, rtol=1e-4)


def test_what_is_missing_is_said():
    dense = network()
    subject, grams = TorchSubject(pruned(dense), PREPROCESSING), grams_of(dense)
    teacher = TorchSubject(dense, PREPROCESSING)
    with pytest.raises(PosttrainingError, match="2: the Gram"):
        correct_biases_(subject, teacher, grams, inputs={"0": grams["0"]})
    with pytest.raises(PosttrainingError, match="6: a Gram of"):
        correct_biases_(subject, teacher, {"6": grams["0"]})
