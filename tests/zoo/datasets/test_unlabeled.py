"""A folder of images, whatever lies beside them, without labels."""

import numpy as np
import pytest
from PIL import Image

from secateur import zoo
from secateur.errors import DataError


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "a.JPG", "deep/er/c.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_images_at_any_depth_in_the_order_of_their_paths(photos):
    data = zoo.data(f"images:{photos}")
    assert [path.removeprefix(f"{photos}/") for path, _ in data.train.files] == ["a.JPG", "b.png", "deep/er/c.webp"]
    image, label = data.train[2]
    assert image.size == (9, 8) and label == 0


def test_nothing_can_be_measured_with_them(photos):
    with pytest.raises(DataError, match="has no test images"):
        zoo.data(f"images:{photos}").split("test")


def test_they_fit_a_network_of_any_number_of_classes(photos):
    data = zoo.data(f"images:{photos}")
    assert not data.labelled
    zoo.check_classes(data, zoo.model("resnet20_cifar10"))


def test_labels_cannot_be_asked_for(photos):
    for wish in ({"holdout": 0.5}, {"classes_file": photos / "notes.txt"}):
        with pytest.raises(DataError, match="neither a class list nor a holdout"):
            zoo.data(f"images:{photos}", **wish)


def test_folders_that_hold_nothing_are_sentences(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        zoo.data(f"images:{tmp_path}/missing")
    with pytest.raises(DataError, match="holds no images"):
        zoo.data(f"images:{tmp_path}")
    with pytest.raises(DataError, match="needs a folder"):
        zoo.data("images")
