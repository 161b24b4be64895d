"""The networks that a path means: those of a run folder, or one ONNX file."""

from pathlib import Path

from secateur.errors import RecipeError
from secateur.files import DENSE_FOLDER, MODEL_FILE
from secateur.measure.runtime import Subject

DENSE, COMPRESSED = "dense", "compressed"


def subjects_of(target: Path | str) -> list[Subject]:
    """The networks of a run folder (dense, if it was kept, and compressed), or of an ONNX file. raises RecipeError."""
    path = Path(target)
    if not path.is_dir():
        return [Subject(path.stem, onnx=path)]
    subjects = []
    for name, home in ((DENSE, path / DENSE_FOLDER), (COMPRESSED, path)):
        if (home / MODEL_FILE).is_file():
            subjects.append(Subject(name, onnx=home / MODEL_FILE, artifact=home))
    if not any(subject.name == COMPRESSED for subject in subjects):
        raise RecipeError(f"{path}: holds no {MODEL_FILE} to measure; a stage 'export' must come first.")
    return subjects
