"""Layers with few columns get variations of the images; all others, and what is kept on disk, are as without."""

import pytest
import torch

from secateur.posttraining import StoredGrams
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.subject_torch import TorchSubject
from secateur.posttraining.thin import GramImages, gather_enough, times_for
from tiny_networks import Tiny

NAMES = ["stem", "body", "depthwise", "point", "classifier"]


@pytest.fixture
def subject() -> TorchSubject:
    torch.manual_seed(0)
    return TorchSubject(Tiny())


def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, 3, 16, 16, generator=generator) for _ in range(2)]


def varied(times):
    return lambda: [images.roll(shift, -1) for shift in range(times) for images in batches()]


IMAGES = GramImages(batches, varied, "rolled", 12)


def columns_wanted(subject):
    return 4 * subject.weight("classifier").shape[1]


def same(one, other):
    assert one.columns == other.columns
    assert torch.equal(one.matrix, other.matrix) and torch.equal(one.mean, other.mean)


def test_times_are_those_that_give_four_columns_for_every_weight(subject):
    # Twelve images: the classifier gets one column of each, convolutions one for every position.
    wanted = -(-columns_wanted(subject) // 12)
    assert times_for(subject, IMAGES, NAMES) == {"classifier": min(10, wanted)}
    assert times_for(subject, GramImages(batches, varied, "rolled", 12 * wanted), NAMES) == {}


@pytest.mark.parametrize("stored", [False, True])
def test_only_thin_layers_are_gathered_from_variations(subject, tmp_path, stored):
    folder = tmp_path if stored else None
    times = times_for(subject, IMAGES, NAMES)["classifier"]
    grams = gather_enough(subject, IMAGES, reversed(NAMES), folder=folder, seed=1)
    assert list(grams) == NAMES
    plain = gather_grams(subject, batches, NAMES[:-1], seed=1)
    for name in plain:
        same(grams[name], plain[name])
    same(grams["classifier"], gather_grams(subject, varied(times), ["classifier"], seed=1)["classifier"])
    assert isinstance(grams, StoredGrams) == stored


def test_stored_ones_are_found_again_and_known_by_images_and_variations(subject, tmp_path):
    grams = gather_enough(subject, IMAGES, NAMES, folder=tmp_path)
    assert isinstance(grams, StoredGrams)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = gather_enough(subject, IMAGES, NAMES, folder=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == files
    otherwise = gather_enough(subject, GramImages(batches, varied, "otherwise", 12), NAMES, folder=tmp_path)
    others = gather_enough(subject, GramImages(lambda: batches()[:1], varied, "rolled", 6), NAMES, folder=tmp_path)
    keys = {each.key("classifier") for each in (grams, again, otherwise, others) if isinstance(each, StoredGrams)}
    assert len(keys) == 3


def test_without_variations_it_is_the_plain_gathering(subject):
    grams = gather_enough(subject, GramImages(batches), NAMES)
    for name, gram in gather_grams(subject, batches, NAMES).items():
        same(grams[name], gram)
    assert gather_enough(subject, IMAGES, []) == {}


def test_inputs_of_the_dense_network_are_gathered_too(subject):
    torch.manual_seed(1)
    other = TorchSubject(Tiny())
    times = times_for(subject, IMAGES, NAMES)["classifier"]
    grams = gather_enough(subject, IMAGES, ["classifier"], dense=other)
    wanted = gather_grams(subject, varied(times), ["classifier"], dense=other)
    assert grams["classifier"].cross is not None and wanted["classifier"].cross is not None
    assert torch.equal(grams["classifier"].cross, wanted["classifier"].cross)
