"""The networks that a path means: those of a run folder, or one file."""

from pathlib import Path

from secateur.errors import RecipeError
from secateur.files import DENSE_FOLDER, MODEL_FILE, QUANTIZED_FILES
from secateur.measure.runtime import Subject

DENSE, COMPRESSED = "dense", "compressed"
TFLITE = ".tflite"


def subjects_of(target: Path | str) -> list[Subject]:
    """The networks of a run folder, or of an ONNX or TensorFlow Lite file. raises RecipeError.

    dense         before compression, if it was kept; of a run that only quantized, the float network
    compressed    after it
    int8 ...      the quantized network
    """
    path = Path(target)
    if not path.is_dir():
        return [Subject(path.stem, tflite=path) if path.suffix == TFLITE else Subject(path.stem, onnx=path)]
    if not (path / MODEL_FILE).is_file():
        raise RecipeError(f"{path}: holds no {MODEL_FILE} to measure; a stage 'export' must come first.")
    quantized = [_subject(name, path, file) for name, file in QUANTIZED_FILES.items() if (path / file).is_file()]
    dense = path / DENSE_FOLDER
    if (dense / MODEL_FILE).is_file():
        own = [_subject(DENSE, dense, MODEL_FILE, dense), _subject(COMPRESSED, path, MODEL_FILE, path)]
    else:
        own = [_subject(DENSE if quantized else COMPRESSED, path, MODEL_FILE, path)]
    return [*own, *quantized]


def _subject(name: str, folder: Path, file: str, artifact: Path | None = None) -> Subject:
    lite = (folder / file).with_suffix(TFLITE)
    return Subject(name, folder / file, artifact, lite if lite.is_file() else None)
