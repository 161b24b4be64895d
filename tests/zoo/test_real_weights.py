"""Published weights on real images: names, options, preprocessing and loader together give the known accuracy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from secateur.zoo import ImageData, loader, model
from secateur.zoo.image_data import ArrayImages

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNT = 1000


@pytest.fixture(scope="module")
def cifar_test(shared_data: Path) -> ImageData:
    """The first 1,000 test images, out of a sheet of 50 x 50 tiles."""
    sheet = np.asarray(Image.open(shared_data / "cifar10" / "test_00.webp").convert("RGB"))
    rows = sheet[: 32 * (COUNT // 50)].reshape(COUNT // 50, 32, 50, 32, 3)
    tiles = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(COUNT, 32, 32, 3)
    labels = np.load(shared_data / "cifar10" / "labels.npz")["test_y"][:COUNT].astype(np.int64)
    return ImageData("cifar10", None, ArrayImages(tiles, labels), CLASSES)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet20_cifar10", "resnet20_cifar10"),
        ("resnet20b_cifar10", "resnet20b_cifar10"),
        ("resnet20b_cifar10", "resnet20_distiller_dense_cifar10"),
        ("shufflenetv2_x0_5_cifar10", "shufflenetv2_x0_5_cifar10"),
    ],
)
def test_accuracy_on_cifar10(shared_data: Path, cifar_test: ImageData, name: str, file: str) -> None:
    module = model(name, weights=shared_data / "models" / f"{file}.safetensors")
    right = 0
    with torch.inference_mode():
        for images, labels in loader(cifar_test, "test", module.preprocessing, batch_size=250):
            right += int((module(images).argmax(1) == labels).sum())
    # 90.6 to 92.6 % on all 10,000 images; another normalisation costs several points.
    assert right / COUNT > 0.90


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet_v1_075_imagenet", "mobilenet_v1_075_imagenet"),
        ("mobilenet_v1_025_imagenet", "mobilenet_v1_025_imagenet"),
        ("squeezenet1_1", "squeezenet1_1_imagenet"),
    ],
)
def test_same_function_as_the_published_onnx_file(shared_data: Path, name: str, file: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    module = model(name, weights=shared_data / "models" / f"{file}.safetensors")
    session = runtime.InferenceSession(shared_data / "onnx" / f"{file}.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    expected = session.run(None, {"input": x})[0]
    with torch.inference_mode():
        found = module(torch.from_numpy(x)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
