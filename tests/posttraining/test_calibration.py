"""The same images again and again, none that accuracy is reported on, and no labels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_networks
from secateur import zoo
from secateur.errors import ArtifactError, DataError
from secateur.posttraining.calibration import Calibration, choose_batches, choose_images
from secateur.zoo.image_data import ArrayImages

PREPARED = zoo.Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def data() -> zoo.ImageData:
    return tiny_networks.images()


@pytest.fixture
def photos(tmp_path):
    """Nine images of other sizes and formats, in no class folders."""
    generator = np.random.default_rng(0)
    for index, name in enumerate(("b.png", "a.jpg", "deep/er/c.webp", "d.PNG", "e.bmp", "f.jpeg", "g.png", "h.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    return tmp_path


def images_of(calibration, **options):
    return torch.cat(list(calibration.batches(PREPARED, 5, **options)))


def test_the_draw_is_fixed_without_repetition_and_nested(data):
    drawn = choose_images(data, 40, seed=7)
    assert drawn.indices == choose_images(data, 40, seed=7).indices
    assert drawn.indices != choose_images(data, 40, seed=8).indices
    assert len(set(drawn.indices)) == len(drawn) == 40
    assert set(drawn.indices) <= set(range(96))
    assert choose_images(data, 10, seed=7).indices == drawn.indices[:10]


def test_batches_are_the_training_images_in_the_order_of_the_draw(data):
    drawn = choose_images(data, 12)
    batches = list(drawn.batches(PREPARED, 5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert batches[0].shape == (5, 3, 16, 16) and batches[0].dtype == torch.float32
    pixels = np.stack([np.asarray(data.train[index][0]) for index in drawn.indices])
    expected = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    torch.testing.assert_close(torch.cat(batches), expected)


def test_a_single_image_that_is_left_over_is_not_lost(data):
    assert sum(len(batch) for batch in choose_images(data, 11).batches(PREPARED, 5, epoch=1)) == 11


def test_epochs_have_orders_of_their_own(data):
    drawn = choose_images(data, 12)
    first, second, third = (images_of(drawn, epoch=epoch) for epoch in range(3))
    assert torch.equal(second, images_of(drawn, epoch=1))
    assert not torch.equal(second, third) and not torch.equal(first, second)
    assert sorted(second.sum((1, 2, 3)).tolist()) == pytest.approx(sorted(first.sum((1, 2, 3)).tolist()))
    assert not torch.equal(second, images_of(drawn, epoch=1, seed=1))


def test_augmented_images_vary_with_the_epoch_alone(data):
    drawn = choose_images(data, 12)
    varied = images_of(drawn, augment=True)
    assert torch.equal(varied, images_of(drawn, augment=True))
    assert not torch.equal(varied, images_of(drawn))
    three = torch.cat(list(drawn.variations(PREPARED, 5, 3)))
    assert len(three) == 36 and torch.equal(three[:12], varied) and not torch.equal(three[12:24], varied)


def test_more_images_than_there_are_is_said(data, capfd):
    assert sorted(choose_images(data, 1000).indices) == list(range(96))
    assert "tiny: has 96 training images, fewer than the 1000 asked for" in capfd.readouterr().err


def test_batches_against_images(data):
    assert choose_batches(data, 3, 8).indices == choose_images(data, 24).indices
    with pytest.raises(DataError, match="not 0 of 8"):
        choose_batches(data, 0, 8)


def test_images_that_accuracy_is_reported_on_are_refused(data):
    only_test = zoo.ImageData("mine", None, data.test, data.classes)
    with pytest.raises(DataError, match="mine: has no train images"):
        choose_images(only_test)


@pytest.mark.parametrize("count", [0, -3])
def test_no_images_is_a_sentence(data, count):
    with pytest.raises(DataError, match=f"at least 1 image, not {count}"):
        choose_images(data, count)


def test_labels_are_not_looked_at(data):
    nonsense = ArrayImages(data.train.pixels, np.full(96, -7))
    drawn = choose_images(zoo.ImageData("nonsense", nonsense, data.test, ()), 12)
    assert torch.equal(images_of(drawn), images_of(choose_images(data, 12)))


def test_it_is_kept_as_json(data):
    drawn = choose_images(data, 12, seed=3)
    again = Calibration.from_dict(json.loads(json.dumps(drawn.to_dict())), data)
    assert (again.indices, again.seed) == (drawn.indices, 3)
    assert torch.equal(images_of(again), images_of(drawn))


@pytest.mark.parametrize(
    "change",
    [{"of": 95}, {"indices": [96]}, {"indices": [-1]}, {"indices": []}, {"indices": ["1"]}, {"indices": [True]},
     {"indices": None}, {"seed": None}, {"seed": 0.5}],
)  # fmt: skip
def test_a_damaged_list_is_a_sentence(data, change):
    with pytest.raises(ArtifactError):
        Calibration.from_dict(choose_images(data, 12).to_dict() | change, data)


def test_something_else_is_a_sentence(data):
    for value in (None, [], {}, "x"):
        with pytest.raises(ArtifactError, match="not a list of calibration images"):
            Calibration.from_dict(value, data)


@pytest.mark.parametrize("as_text", [False, True])
def test_any_folder_of_images_calibrates(photos, as_text, capfd):
    drawn = choose_images(str(photos) if as_text else photos, 20)
    assert len(drawn) == 9 and images_of(drawn).shape == (9, 3, 16, 16)
    assert drawn.to_dict()["data"] == f"images:{photos}"
    assert "fewer than" in capfd.readouterr().err


def test_larger_inputs_are_cropped_at_random(photos):
    large = zoo.Preprocessing((3, 96, 96), (0.5,) * 3, (0.5,) * 3)
    drawn = choose_images(photos, 3)
    a, b = (torch.cat(list(drawn.batches(large, 2, augment=True, epoch=0))) for _ in range(2))
    assert a.shape == (3, 3, 96, 96) and torch.equal(a, b)


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff\xe0" + b"\xff" * 99]
)
def test_a_damaged_image_is_a_sentence(photos, content):
    (photos / "b.png").write_bytes(content)
    with pytest.raises(DataError, match=r"b\.png: cannot be read as an image"):
        images_of(choose_images(photos, 9))


def test_an_image_that_would_fill_memory_is_a_sentence(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="cannot be read as an image"):
        images_of(choose_images(photos, 9))


def test_a_cut_off_image_is_a_sentence(photos):
    whole = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image"):
        images_of(choose_images(photos, 9))


def test_no_such_folder_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        choose_images(tmp_path / "missing")


def test_the_real_calibration_images_are_read(shared_data):
    drawn = choose_images(shared_data / "imagenet_calib500", 4)
    assert len(drawn.data.train) == 500
    assert next(drawn.batches(zoo.Preprocessing(), 4)).shape == (4, 3, 224, 224)
