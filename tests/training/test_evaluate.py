"""Accuracy: counted by hand, and equal to the published figure on real images."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from secateur.errors import DataError
from secateur.training import evaluate
from secateur.zoo import ImageData, Preprocessing, model, preprocessing_of
from secateur.zoo.image_data import ArrayImages

ONE_PIXEL = Preprocessing((3, 1, 1), (0.0,) * 3, (1.0,) * 3, crop_pct=1.0)


class Ranking(nn.Module):
    """Logits that fall with the distance of the class from round(red * 255)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("classes", torch.arange(classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return -(self.classes - (x[:, 0, 0, 0] * 255)[:, None]).abs()


def pixels(values: list[int], labels: list[int], classes: int) -> ImageData:
    images = np.zeros((len(values), 1, 1, 3), np.uint8)
    images[:, 0, 0, 0] = values
    return ImageData("pixels", None, ArrayImages(images, np.array(labels)), tuple(map(str, range(classes))))


def test_counted_by_hand():
    # Class 0 is the answer to 0; labels 0, 1, 4 are among its five nearest, 5 and 9 are not.
    found = evaluate(Ranking(10), pixels([0] * 5, [0, 1, 4, 5, 9], 10), ONE_PIXEL, batch_size=2)
    normaliser = math.log(sum(math.exp(-i) for i in range(10)))
    assert (found.top1, found.top5, found.images) == (20.0, 60.0, 5)
    assert found.loss == pytest.approx(normaliser + (0 + 1 + 4 + 5 + 9) / 5, rel=1e-6)
    assert str(found).startswith("top-1 20.00 %, top-5 60.00 %, loss 4.2586 on 5 images")


def test_fewer_than_five_classes():
    found = evaluate(Ranking(3), pixels([0, 0, 0], [0, 1, 2], 3), ONE_PIXEL)
    assert (found.top1, found.top5) == (pytest.approx(100 / 3), 100.0)


def test_a_limit_takes_so_many_images():
    assert evaluate(Ranking(3), pixels([0, 1, 2, 0], [0, 1, 2, 1], 3), ONE_PIXEL, limit=2).images == 2


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_does_not_matter_nor_does_the_mode_change(job, batch_size):
    network = job.network(norm=True)
    whole = evaluate(network, job.images(), job.PREPROCESSING, batch_size=37)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    network[1].eval()
    found = evaluate(network, job.images(), job.PREPROCESSING, batch_size=batch_size)
    assert network.training and network[0].training
    assert (found.top1, found.top5, found.images) == (whole.top1, whole.top5, whole.images) and whole.images == 37
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert network[3].weight.stride() == (72, 9, 3, 1), "the memory layout is the usual one again"


def test_a_label_without_an_output_is_a_sentence():
    with pytest.raises(DataError, match="the model has 3 outputs, but an image has label 3"):
        evaluate(Ranking(3), pixels([0, 0], [0, 3], 4), ONE_PIXEL)


def test_an_output_that_is_no_classification_is_a_sentence():
    with pytest.raises(DataError, match=r"the model's output has shape \(2, 3, 1, 1\), not \(images, classes\)"):
        evaluate(nn.Identity(), pixels([0, 0], [0, 1], 2), ONE_PIXEL)


@pytest.mark.slow
def test_the_published_accuracy_on_cifar10(shared_data):
    folder = shared_data / "cifar10"
    if not (folder / "labels.npz").is_file():
        pytest.skip(f"needs the sheets of CIFAR-10 in {folder}")
    sheets = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("test_*.webp"))]
    tiles = np.concatenate([sheet.reshape(50, 32, 50, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3) for sheet in sheets])
    labels = np.load(folder / "labels.npz")["test_y"].astype(np.int64)
    images = ImageData("cifar10", None, ArrayImages(tiles, labels), tuple(map(str, range(10))))
    weights = shared_data / "models" / "resnet20_cifar10.safetensors"
    network = model("resnet20_cifar10", weights=weights, classes=10)
    found = evaluate(network, images, preprocessing_of(network))
    assert (round(found.top1, 2), found.images) == (91.73, 10_000)
