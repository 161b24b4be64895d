from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secateur.errors import DataError
from secateur.zoo import ImageData, Preprocessing, data, loader, numpy_batches
from secateur.zoo import pixels as pixels_module
from secateur.zoo.image_data import ArrayImages
from secateur.zoo.loader import spread

SMALL = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3)


def _images(train: int = 41, test: int = 23, size: int = 8) -> ImageData:
    """Every image is recognised by its first pixel, its label is the image's number modulo 7."""

    def make(count: int) -> ArrayImages:
        pixels = np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return ArrayImages(pixels, np.arange(count) % 7)

    return ImageData("made", make(train), make(test), tuple("abcdefg"))


IMAGES = _images()


def _all(**options) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader(options.pop("data", IMAGES), **options))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_test_images_come_in_their_order_and_unchanged() -> None:
    x, y = _all(split="test", preprocessing=SMALL, batch_size=5)
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert np.array_equal((x * 255).round().byte().numpy().transpose(0, 2, 3, 1), IMAGES.test.pixels)
    assert y.tolist() == IMAGES.test.labels.tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_ranks_share_out_what_one_process_sees(seed: int, epoch: int, batch: int, world: int, augment: bool) -> None:
    options = {"preprocessing": SMALL, "augment": augment, "seed": seed, "epoch": epoch}
    whole, labels = _all(split="train", batch_size=batch * world, **options)
    ranks = [
        list(loader(IMAGES, "train", batch_size=batch, rank=rank, world_size=world, **options)) for rank in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    start = 0
    for step in zip(*ranks, strict=True):
        images = torch.stack([x for x, _ in step], 1).flatten(0, 1)
        targets = torch.stack([y for _, y in step], 1).flatten()
        assert torch.equal(images, whole[start : start + len(images)])
        assert torch.equal(targets, labels[start : start + len(images)])
        start += len(images)
    assert len(IMAGES.train) - start < 2 * world


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 12), st.sampled_from(["train", "test"]), st.booleans())
def test_resuming_inside_an_epoch(batch: int, skip: int, split: str, augment: bool) -> None:
    options = {"preprocessing": SMALL, "batch_size": batch, "augment": augment, "seed": 3}
    whole = list(loader(IMAGES, split, **options))
    resumed = loader(IMAGES, split, skip_batches=skip, **options)
    assert len(resumed) == max(0, len(whole) - skip)
    for (x, y), (wanted_x, wanted_y) in zip(resumed, whole[skip:], strict=True):
        assert torch.equal(x, wanted_x) and torch.equal(y, wanted_y)


def test_epochs_and_seeds_differ_but_see_every_image() -> None:
    def order(**options: int) -> list[bytes]:
        x, _ = _all(split="train", preprocessing=SMALL, batch_size=8, **options)
        return [image.numpy().tobytes() for image in x]

    first = order()
    assert order() == first and order(epoch=1) != first and order(seed=1) != first
    # 41 images in batches of 8: the last batch would hold a single image, which batch norm cannot use.
    assert len(first) == 40
    assert set(order(epoch=1)) <= {image for epoch in range(6) for image in order(epoch=epoch)}


@pytest.mark.parametrize("augment", [False, True])
def test_worker_processes_change_nothing(monkeypatch: pytest.MonkeyPatch, augment: bool) -> None:
    monkeypatch.setattr(pixels_module, "KEEP_BYTES", 0)
    images = _images(10, 10, size=70)
    large = Preprocessing((3, 66, 66))
    options = {"data": images, "split": "train", "preprocessing": large, "batch_size": 4, "augment": augment}
    x, y = _all(**options)
    x2, y2 = _all(**options, workers=2)
    assert torch.equal(x, x2) and torch.equal(y, y2)


def test_decoding_on_the_way_is_the_same_as_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"split": "train", "preprocessing": SMALL, "batch_size": 6, "augment": True}
    kept = _all(data=_images(), **options)
    monkeypatch.setattr(pixels_module, "KEEP_BYTES", 0)
    on_the_way = _all(data=_images(), **options)
    assert all(torch.equal(a, b) for a, b in zip(kept, on_the_way, strict=True))


@given(st.integers(1, 500), st.integers(1, 600))
def test_limit_is_spread_evenly(images: int, limit: int) -> None:
    found = spread(images, limit)
    assert len(found) == min(images, limit) == len(set(found.tolist()))
    assert found[0] == 0 and found[-1] < images
    gaps = np.diff(found)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_limit_is_the_same_images_every_epoch() -> None:
    options = {"split": "train", "preprocessing": SMALL, "batch_size": 5, "limit": 10}
    first, second = (_all(epoch=epoch, **options)[0] for epoch in (0, 1))
    as_sets = [{image.numpy().tobytes() for image in x} for x in (first, second)]
    assert len(first) == 10 and as_sets[0] == as_sets[1] and not torch.equal(first, second)


def test_numpy_batches_are_the_test_images() -> None:
    batches = list(numpy_batches(IMAGES, "test", SMALL, 10, limit=15))
    assert [len(x) for x, _ in batches] == [10, 5]
    x, y = batches[0]
    assert x.dtype == np.float32 and y.dtype == np.int64 and x.shape == (10, 3, 8, 8)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 4, "limit": 0}])
def test_impossible_numbers(options: dict) -> None:
    with pytest.raises(DataError, match="must be at least 1"):
        list(loader(IMAGES, "test", SMALL, **options))


@pytest.mark.parametrize("keep", [0, 1 << 30])
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_image_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int, workers: int
) -> None:
    monkeypatch.setattr(pixels_module, "KEEP_BYTES", keep)
    (tmp_path / "a").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"{number}.png")
    (tmp_path / "a" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    batches = loader(data(f"imagefolder:{tmp_path}"), "test", SMALL, batch_size=2, workers=workers)
    with pytest.raises(DataError, match=r"1\.png: cannot be read as an image") as error:
        list(batches)
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)
