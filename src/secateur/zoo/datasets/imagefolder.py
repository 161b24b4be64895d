"""Images in folders named after their classes, in torchvision's layout.

    DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg     (val, validation or test)
    DIR/CLASS/*.jpg                                   test images only, or split by a holdout share

A class folder may be empty. A class list file fixes which folders are classes, and their order.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from secateur.errors import DataError
from secateur.registry import nearest
from secateur.zoo.image_data import ImageData, Wanted, datasets
from secateur.zoo.torchvision_guard import import_torchvision

TEST_FOLDERS = ("val", "validation", "test")


class FolderImages:
    """Image files with their class indices, read when they are asked for."""

    def __init__(self, files: Sequence[tuple[str, int]]) -> None:
        self.files = list(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
        path, label = self.files[index]
        return read_image(path), label


def read_image(path: str | Path) -> Image.Image:
    """The decoded image in a file. raises DataError that names the file when it is damaged."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    # Decoders report damage in whatever way the damage hits them.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{path}: cannot be read as an image: {str(error).rstrip('.')}.") from error


@datasets.register("imagefolder")
def imagefolder(wanted: Wanted) -> ImageData:
    """The images below a folder. raises DataError: no such folder, no images, classes that do not agree."""
    if not wanted.argument:
        raise DataError("imagefolder: needs a folder, as in imagefolder:DIR.")
    root = Path(wanted.argument).expanduser()
    if not root.is_dir():
        raise DataError(f"imagefolder: no such folder: {root}.")
    train_root = root / "train" if (root / "train").is_dir() else None
    test_root = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    listed = read_class_list(wanted.classes_file) if wanted.classes_file else None
    if train_root and test_root:
        classes = listed or _same_classes(train_root, test_root)
        train, test = _files(train_root, classes), _files(test_root, classes)
    else:
        only = train_root or test_root or root
        classes = listed or _class_folders(only)
        files = _files(only, classes)
        if wanted.holdout is not None and not 0 < wanted.holdout < 1:
            raise DataError(f"{root}: holdout is a share between 0 and 1, not {wanted.holdout:g}.")
        if wanted.holdout:
            train, test = split_off(files, wanted.holdout)
            if not test:
                raise DataError(f"{root}: a holdout share of {wanted.holdout:g} leaves no test images.")
        elif train_root:
            raise DataError(f"{root}: has train/ but none of {', '.join(TEST_FOLDERS)}; add one, or a holdout share.")
        else:
            train, test = None, files
    name = f"imagefolder:{wanted.argument}"
    return ImageData(name, FolderImages(train) if train else None, FolderImages(test), tuple(classes))


def read_class_list(path: Path) -> list[str]:
    """Class folders, one a line. raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the class list cannot be read: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: the class list is empty; it needs one class folder a line.")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path}: the class '{name}' is listed twice.")
        seen.add(name)
    return names


def split_off(files: list[tuple[str, int]], share: float) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(kept, split off): `share` of every class, spread evenly over its files, always the same ones."""
    kept: list[tuple[str, int]] = []
    off: list[tuple[str, int]] = []
    seen: dict[int, int] = {}
    for file in files:
        count = seen[file[1]] = seen.get(file[1], 0) + 1
        # One more is due whenever the running share of the class passes a whole number.
        (off if int(count * share + 1e-9) > int((count - 1) * share + 1e-9) else kept).append(file)
    return kept, off


def _class_folders(root: Path) -> list[str]:
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{root}: has no class folders; images belong into one folder per class.")
    return names


def _same_classes(train: Path, test: Path) -> list[str]:
    ours, theirs = _class_folders(train), _class_folders(test)
    if ours != theirs:
        only = sorted(set(ours) ^ set(theirs))[0]
        raise DataError(
            f"{train.parent}: {train.name}/ has {len(ours)} class folders and {test.name}/ has "
            f"{len(theirs)}, which differ, for example in '{only}'; a class list file fixes the classes."
        )
    return ours


def _files(root: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    if unlisted := sorted(set(_class_folders(root)) - set(classes)):
        guess = nearest(unlisted[0], classes)
        hint = f" Did the list mean it by '{guess}'?" if guess else ""
        raise DataError(
            f"{root}: {len(unlisted)} class folders are not in the class list of {len(classes)}, "
            f"for example '{unlisted[0]}'.{hint}"
        )
    folder = import_torchvision("datasets.folder")
    present = {name: index for index, name in enumerate(classes) if (root / name).is_dir()}
    files = folder.make_dataset(str(root), present, extensions=folder.IMG_EXTENSIONS, allow_empty=True)
    if not files:
        raise DataError(f"{root}: holds no images in its {len(present)} class folders.")
    return files
