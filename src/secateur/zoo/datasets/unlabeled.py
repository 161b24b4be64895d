"""Images without labels: every image file below a folder, in the order of their paths.

They calibrate and tune; nothing can be measured with them. To a data set they all belong to one class.
"""

from pathlib import Path

from secateur.errors import DataError
from secateur.zoo.datasets.imagefolder import FolderImages
from secateur.zoo.image_data import ImageData, Wanted, datasets
from secateur.zoo.torchvision_guard import import_torchvision


@datasets.register("images")
def unlabeled(wanted: Wanted) -> ImageData:
    """The images of `images:DIR` as training images. raises DataError: no such folder, no images, labels asked for."""
    if not wanted.argument:
        raise DataError("images: needs a folder, as in images:DIR.")
    if wanted.classes_file is not None or wanted.holdout is not None:
        raise DataError(
            f"images:{wanted.argument}: has no labels, so it takes neither a class list nor a holdout share; "
            "imagefolder:DIR reads images in class folders."
        )
    root = Path(wanted.argument).expanduser()
    if not root.is_dir():
        raise DataError(f"images: no such folder: {root}.")
    suffixes = set(import_torchvision("datasets.folder").IMG_EXTENSIONS)
    files = sorted(
        str(path)
        for path in root.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        raise DataError(f"{root}: holds no images; known are files that end in {', '.join(sorted(suffixes))}.")
    train = FolderImages([(file, 0) for file in files])
    return ImageData(f"images:{wanted.argument}", train, FolderImages([]), ("unlabeled",), labelled=False)
