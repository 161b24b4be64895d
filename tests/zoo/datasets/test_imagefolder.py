from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from secateur.errors import DataError
from secateur.zoo import data
from secateur.zoo.datasets.imagefolder import split_off


def _fill(root: Path, **classes: int) -> Path:
    """Class folders with so many images, in turns of several formats."""
    suffixes = ("png", "webp", "jpeg", "JPG", "bmp")
    for name, images in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(images):
            suffix = suffixes[number % len(suffixes)]
            Image.new("RGB", (8, 6), (number, 0, 0)).save(root / name / f"{number}.{suffix}")
    return root


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_two_splits(tmp_path: Path, name: str) -> None:
    _fill(tmp_path / "train", cat=6, dog=3)
    _fill(tmp_path / name, cat=2, dog=1)
    images = data(f"imagefolder:{tmp_path}")
    assert (len(images.train), len(images.test), images.classes) == (9, 3, ("cat", "dog"))
    image, label = images.train[8]
    assert image.size == (8, 6) and label == 1


def test_flat_folder_is_for_testing_and_classes_may_be_empty(tmp_path: Path) -> None:
    images = data(f"imagefolder:{_fill(tmp_path, a=2, b=0, c=1)}")
    assert images.train is None and images.classes == ("a", "b", "c")
    assert [label for _, label in map(images.test.__getitem__, range(3))] == [0, 0, 2]


def test_files_that_are_no_images_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    _fill(tmp_path, a=2, b=1)
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.md").write_text("x")
    images = data(f"imagefolder:{tmp_path}")
    assert len(images.test) == 3 and images.classes == ("a", "b")


def test_class_list_fixes_order_and_number(tmp_path: Path) -> None:
    _fill(tmp_path / "images", a=1, b=1)
    listed = tmp_path / "classes.txt"
    listed.write_text("z\nb\n\na \n")
    images = data(f"imagefolder:{tmp_path / 'images'}", classes_file=listed)
    assert images.classes == ("z", "b", "a")
    assert sorted(images.test[i][1] for i in range(2)) == [1, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a\n", "1 class folders are not in the class list of 1, for example 'boat'"),
        ("a\nboats\n", "for example 'boat'. Did the list mean it by 'boats'"),
        ("a\na\nboat\n", "'a' is listed twice"),
        ("\n", "class list is empty"),
    ],
)
def test_class_list_that_does_not_fit(tmp_path: Path, text: str, sentence: str) -> None:
    _fill(tmp_path / "images", a=1, boat=1)
    listed = tmp_path / "classes.txt"
    listed.write_text(text)
    with pytest.raises(DataError, match=sentence):
        data(f"imagefolder:{tmp_path / 'images'}", classes_file=listed)
    with pytest.raises(DataError, match="class list cannot be read"):
        data(f"imagefolder:{tmp_path / 'images'}", classes_file=tmp_path / "absent.txt")


def test_missing_or_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder: .*absent\.$"):
        data(f"imagefolder:{tmp_path / 'absent'}")
    with pytest.raises(DataError, match="has no class folders"):
        data(f"imagefolder:{tmp_path}")
    with pytest.raises(DataError, match="holds no images in its 2 class folders"):
        data(f"imagefolder:{_fill(tmp_path, a=0, b=0)}")


def test_splits_with_other_classes(tmp_path: Path) -> None:
    _fill(tmp_path / "train", a=1, b=1)
    _fill(tmp_path / "val", a=1, c=1)
    with pytest.raises(DataError, match="has 2 class folders and val/ has 2, which differ, for example in 'b'"):
        data(f"imagefolder:{tmp_path}")


def test_train_alone_needs_a_holdout(tmp_path: Path) -> None:
    _fill(tmp_path / "train", a=10, b=10)
    with pytest.raises(DataError, match="has train/ but none of val, validation, test"):
        data(f"imagefolder:{tmp_path}")
    images = data(f"imagefolder:{tmp_path}", holdout=0.2)
    assert (len(images.train), len(images.test)) == (16, 4)


@given(st.lists(st.integers(0, 4), max_size=60), st.floats(0.01, 0.99))
def test_holdout_takes_its_share_of_every_class(labels: list[int], share: float) -> None:
    files = [(str(index), label) for index, label in enumerate(labels)]
    kept, off = split_off(files, share)
    assert sorted(kept + off) == sorted(files)
    for label in set(labels):
        count = labels.count(label)
        assert abs(sum(file[1] == label for file in off) - share * count) <= 1


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"not an image", lambda raw: raw[:40] + b"\0" * 40],
)
@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_damaged_image_is_named_when_it_is_read(tmp_path: Path, damage, suffix: str) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / f"broken.{suffix}"
    Image.effect_noise((40, 40), 80).convert("RGB").save(path)
    path.write_bytes(damage(path.read_bytes()))
    images = data(f"imagefolder:{tmp_path}")
    with pytest.raises(DataError, match=rf"broken\.{suffix}: cannot be read as an image: .*\.$"):
        images.test[0]


def test_picture_that_unfolds_to_a_giant_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = data(f"imagefolder:{_fill(tmp_path, a=1)}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(DataError, match="cannot be read as an image"):
        images.test[0]
