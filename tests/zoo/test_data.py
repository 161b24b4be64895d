import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from secateur.errors import DataError, RecipeError
from secateur.zoo import check_classes, data, model


def test_digits_are_always_the_same_split() -> None:
    a, b = data("digits"), data("digits")
    assert (len(a.train), len(a.test), len(a.classes)) == (1437, 360, 10) and not a.flip
    for split in ("train", "test"):
        first, second = a.split(split), b.split(split)
        assert np.array_equal(first.pixels, second.pixels) and np.array_equal(first.labels, second.labels)
    image, label = a.test[0]
    assert image.size == (32, 32) and image.mode == "RGB" and label == 0
    assert a.train.pixels.max() == 255 and a.train.pixels.min() == 0


def test_digits_are_stratified_and_no_image_is_in_both() -> None:
    digits = data("digits")
    all_of, tested = (
        np.bincount(labels)
        for labels in (np.concatenate([digits.train.labels, digits.test.labels]), digits.test.labels)
    )
    assert np.abs(tested - all_of / 5).max() < 1
    # 1,797 images of which a few are exact copies of each other in the source
    train = {image.tobytes() for image in digits.train.pixels}
    assert sum(image.tobytes() in train for image in digits.test.pixels) <= 1


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown data set 'digit'\. Did you mean 'digits'\?"):
        data("digit")
    with pytest.raises(DataError, match="imagefolder:DIR"):
        data("imagefolder")
    with pytest.raises(DataError, match="nothing follows the colon"):
        data("imagefolder:")


def test_split_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "x.png")
    images = data(f"imagefolder:{tmp_path}")
    with pytest.raises(DataError, match=r"has no train images; .*holdout"):
        images.split("train")
    with pytest.raises(DataError, match="split 'val' is not one of train, test"):
        images.split("val")


def test_classes_must_be_the_networks() -> None:
    digits = data("digits")
    check_classes(digits, model("resnet20_cifar10"))
    with pytest.raises(DataError, match="digits: has 10 classes, but resnet20_cifar10 tells 12 apart; build it with"):
        check_classes(digits, model("resnet20_cifar10", classes=12))
    with pytest.raises(DataError, match="Linear tells 3 apart"):
        check_classes(digits, nn.Linear(5, 3))


def test_images_of_the_users_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_images.py").write_text(
        "from PIL import Image\n"
        "from secateur.zoo import ImageData\n"
        "def two():\n    return ImageData('two', None, [(Image.new('RGB', (4, 4)), 1)] * 2, ('a', 'b'))\n"
        "def nothing():\n    return 3\n"
        "def fails():\n    raise OSError('no disk')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_images", raising=False)
    assert len(data("users_images:two").test) == 2
    with pytest.raises(DataError, match="it returned a int"):
        data("users_images:nothing")
    with pytest.raises(DataError, match="failed with OSError: no disk"):
        data("users_images:fails")
    with pytest.raises(DataError, match="no callable named 'absent'"):
        data("users_images:absent")


def test_cifar10_without_network_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    from secateur.zoo.torchvision_guard import import_torchvision

    monkeypatch.setattr(import_torchvision("datasets.utils"), "_urlretrieve", offline)
    with pytest.raises(DataError, match=r"^cifar10: not in .*download failed .*name its folder: cifar10:DIR\.$"):
        data(f"cifar10:{tmp_path}")
