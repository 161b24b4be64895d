import numpy as np
import torch
from PIL import Image

from secateur.zoo import Preprocessing
from secateur.zoo.augment import PADDING, CropAndFlip, ResizedCropAndFlip


def test_small_images_are_shifted_windows_of_the_padded_image() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (40, 6, 6, 3), dtype=np.uint8)
    edge = (PADDING, PADDING)
    padded = np.pad(pixels, ((0, 0), edge, edge, (0, 0)))
    varied = CropAndFlip(40, seed=0, epoch=0, flip=True)(pixels, np.arange(40))
    mirrored = 0
    for image, original in zip(varied, padded, strict=True):
        windows = {
            (row, column, flip): original[row : row + 6, column : column + 6][:, :: -1 if flip else 1]
            for row in range(2 * PADDING + 1)
            for column in range(2 * PADDING + 1)
            for flip in (False, True)
        }
        found = [key for key, window in windows.items() if np.array_equal(window, image)]
        assert len(found) == 1
        mirrored += found[0][2]
    assert 10 <= mirrored <= 30


def test_no_mirror_images_of_digits() -> None:
    ramp = np.broadcast_to(np.arange(1, 33, dtype=np.uint8)[None, None, :, None], (50, 32, 32, 3))
    varied = CropAndFlip(50, seed=0, epoch=0, flip=False)(ramp, np.arange(50))
    # Without padding at the edges, a row still rises from left to right.
    assert (np.diff(varied[:, 16, PADDING:-PADDING, 0].astype(int), axis=1) == 1).all()


def test_shifts_depend_on_seed_epoch_and_image_not_on_the_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    vary = CropAndFlip(20, seed=1, epoch=2, flip=True)
    whole = vary(pixels, np.arange(20))
    part = np.array([7, 3])
    assert np.array_equal(vary(pixels[part], part), whole[part])
    for other in (CropAndFlip(20, 1, 3, True), CropAndFlip(20, 2, 2, True)):
        assert not np.array_equal(other(pixels, np.arange(20)), whole)


def test_large_images_depend_on_seed_epoch_and_image_only() -> None:
    image = Image.effect_noise((100, 90), 90).convert("RGB")
    wanted = Preprocessing((3, 72, 80))
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = ResizedCropAndFlip(4, 1, 2, True, wanted)(image, 3)
    assert torch.equal(torch.rand(2), expected)
    again = ResizedCropAndFlip(4, 1, 2, True, wanted)(image, 3)
    assert first.shape == (72, 80, 3) and np.array_equal(first, again)
    assert not np.array_equal(first, ResizedCropAndFlip(4, 1, 2, True, wanted)(image, 2))
    assert not np.array_equal(first, ResizedCropAndFlip(4, 1, 3, True, wanted)(image, 3))
