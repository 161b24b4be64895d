"""Matching statistics: mean and variance of every output channel equal the dense ones."""

import pytest
import torch

from pruned_pair import IMAGES, NAMES, PREPROCESSING, batches, grams_of, network, outputs, pruned
from secateur.errors import PosttrainingError
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.match_statistics import match_statistics_
from secateur.posttraining.output_statistics import FreshGrams
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import masks


def gaps(model, dense):
    found = []
    for name in NAMES:
        own, theirs = outputs(model, name), outputs(dense, name)
        found.append(
            (
                float((own.mean(1) - theirs.mean(1)).abs().max()),
                float((own.var(1, correction=0) / theirs.var(1, correction=0) - 1).abs().max()),
            )
        )
    return found


@pytest.mark.parametrize("bias", [True, False])
def test_in_order_every_channel_matches(bias):
    dense = network(bias)
    model = pruned(dense)
    kept = {name: mask.clone() for name, mask in masks(model).items()}
    subject = TorchSubject(model, PREPROCESSING)
    before = gaps(model, dense)
    fresh = FreshGrams(subject, batches, NAMES, limit=None)
    factors = match_statistics_(subject, TorchSubject(dense, PREPROCESSING), grams_of(dense), fresh)
    assert list(factors) == list(NAMES)
    for (mean, variance), (mean_before, variance_before) in zip(gaps(model, dense), before, strict=True):
        assert mean < 1e-4 < mean_before and variance < 1e-3 < variance_before
    for name, mask in masks(model).items():
        assert torch.equal(mask, kept[name]) and not model.get_submodule(name).weight[~mask].any()


def test_in_one_pass_the_first_layer_matches_and_the_others_come_nearer():
    dense = network()
    model = pruned(dense)
    before = gaps(model, dense)
    match_statistics_(
        TorchSubject(model, PREPROCESSING), TorchSubject(dense, PREPROCESSING), grams_of(dense), grams_of(model)
    )
    after = gaps(model, dense)
    assert after[0][0] < 1e-4 and after[0][1] < 1e-3
    assert after[2][0] < before[2][0]


def test_a_channel_without_weights_gets_the_mean_only():
    dense = network()
    model = pruned(dense)
    masks(model)["2"][3] = False
    subject = TorchSubject(model, PREPROCESSING)
    fresh = FreshGrams(subject, batches, NAMES, limit=None)
    factors = match_statistics_(subject, TorchSubject(dense, PREPROCESSING), grams_of(dense), fresh)
    assert float(factors["2"][3]) == 1.0
    assert not model[2].weight[3].any()
    torch.testing.assert_close(outputs(model, "2").mean(1), outputs(dense, "2").mean(1), atol=1e-4, rtol=1e-4)


def test_the_dense_network_matches_itself():
    dense = network()
    model = network()
    factors = match_statistics_(
        TorchSubject(model, PREPROCESSING), TorchSubject(dense, PREPROCESSING), grams_of(dense), grams_of(model)
    )
    for name in NAMES:
        torch.testing.assert_close(factors[name], torch.ones_like(factors[name]))
        torch.testing.assert_close(model.get_submodule(name).bias, dense.get_submodule(name).bias)


def test_a_missing_gram_is_said():
    dense = network()
    subject = TorchSubject(pruned(dense), PREPROCESSING)
    with pytest.raises(PosttrainingError, match="0: the Gram"):
        match_statistics_(subject, TorchSubject(dense, PREPROCESSING), {}, grams_of(dense))


def test_an_onnx_file_matches_as_a_torch_network_does(tmp_path):
    pair = []
    for model in (network(), network()):
        path = tmp_path / f"{len(pair)}.onnx"
        export_onnx(model, path, PREPROCESSING.input_size)
        pair.append(OnnxSubject(read_model(path), PREPROCESSING))
    dense, subject = pair
    names = dense.order(IMAGES)
    assert len(names) == 3
    for name in names:
        weight = subject.weight(name)
        subject.store_(name, weight * (weight.abs() > weight.abs().median()))
    assert (subject.run(IMAGES) - dense.run(IMAGES)).abs().mean() > 1e-2
    grams = gather_grams(dense, batches, names, limit=None)
    match_statistics_(subject, dense, grams, FreshGrams(subject, batches, names, limit=None))
    own, wanted = subject.run(IMAGES), dense.run(IMAGES)
    torch.testing.assert_close(own.mean(0), wanted.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own.var(0), wanted.var(0), atol=1e-4, rtol=1e-3)
    assert all((subject.weight(name) == 0).float().mean() >= 0.4 for name in names)
