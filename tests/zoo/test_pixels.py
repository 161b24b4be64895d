import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secateur.errors import DataError
from secateur.zoo import ImageData, Preprocessing
from secateur.zoo.image_data import ArrayImages
from secateur.zoo.pixels import decoded, fit, normalise
from secateur.zoo.torchvision_guard import import_torchvision


def _noise(width: int, height: int) -> Image.Image:
    random = np.random.default_rng([width, height])
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("crop_pct", [0.5, 0.875, 1.0])
def test_image_of_the_input_size_is_taken_as_it_is(crop_pct: float) -> None:
    image = _noise(32, 32)
    assert np.array_equal(fit(image, Preprocessing((3, 32, 32), crop_pct=crop_pct)), np.asarray(image))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (100, 90), (227, 227), (257, 300)])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0, 224 / 232])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_same_pixels_as_torchvisions_reference(size: tuple, crop_pct: float, interpolation: str) -> None:
    v2 = import_torchvision("transforms.v2")
    wanted = Preprocessing(crop_pct=crop_pct, interpolation=interpolation)
    reference = v2.Compose(
        [v2.Resize(wanted.resize_to, interpolation=v2.InterpolationMode(interpolation)), v2.CenterCrop(224)]
    )
    image = _noise(*size)
    assert np.array_equal(fit(image, wanted), np.asarray(reference(image)))


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 80)] * 4, st.floats(0.3, 1), st.sampled_from([1, 3]))
def test_any_image_fits_any_input(w: int, h: int, height: int, width: int, crop: float, channels: int) -> None:
    wanted = Preprocessing((channels, height, width), (0.5,) * channels, (0.5,) * channels, crop_pct=crop)
    assert fit(_noise(w, h), wanted).shape == (height, width, channels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_picture_mode_becomes_rgb(mode: str) -> None:
    image = _noise(8, 8).convert("L").convert(mode) if mode in ("I;16",) else _noise(8, 8).convert(mode)
    assert fit(image, Preprocessing((3, 8, 8))).shape == (8, 8, 3)


def test_normalise_is_the_equation() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    wanted = Preprocessing((3, 5, 4))
    x = normalise(pixels, wanted)
    mean, std = np.array(wanted.mean), np.array(wanted.std)
    expected = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert x.dtype == torch.float32 and x.is_contiguous()
    np.testing.assert_allclose(x.numpy(), expected, rtol=0, atol=1e-6)


def test_bgr_turns_the_channels_before_mean_and_std() -> None:
    pixels = np.zeros((1, 1, 1, 3), np.uint8)
    pixels[..., 0] = 255  # red
    wanted = Preprocessing((3, 1, 1), (0.1, 0.2, 0.3), (1, 1, 1), channels="bgr")
    assert normalise(pixels, wanted).flatten().tolist() == pytest.approx([-0.1, -0.2, 0.7])


def test_kept_pixels_are_shared_and_read_once() -> None:
    class Counting(ArrayImages):
        reads = 0

        def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
            Counting.reads += 1
            return super().__getitem__(index)

    images = Counting(np.zeros((6, 32, 32, 3), np.uint8), np.arange(6))
    data = ImageData("counted", None, images, tuple("abcdef"))
    wanted = Preprocessing((3, 32, 32))
    for _ in range(2):
        kept = decoded(data, "test", wanted)
        assert kept is not None
        _, labels = kept.take(data, "test", np.array([4, 1]), wanted)
        assert labels.tolist() == [4, 1] and Counting.reads == 2


def test_large_splits_are_not_kept() -> None:
    class Many:
        def __len__(self) -> int:
            return 50_000

    data = ImageData("many", None, Many(), ("a",))  # type: ignore[arg-type]
    assert decoded(data, "test", Preprocessing()) is None


@pytest.mark.parametrize("label", [-1, 2])
def test_label_outside_of_the_classes(label: int) -> None:
    images = ArrayImages(np.zeros((1, 8, 8, 3), np.uint8), np.array([label]))
    data = ImageData("bad", None, images, ("a", "b"))
    kept = decoded(data, "test", Preprocessing((3, 8, 8)))
    assert kept is not None
    with pytest.raises(DataError, match=f"bad: image 0 of test has the label {label}, outside of its 2 classes"):
        kept.take(data, "test", np.array([0]), Preprocessing((3, 8, 8)))
