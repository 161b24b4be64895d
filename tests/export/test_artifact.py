"""A folder is an artifact only when it is whole."""

from pathlib import Path

import pytest
import torch

from secateur.errors import ArtifactError
from secateur.export import MODEL_FILE, PLAN_FILE, RECIPE_FILE, WEIGHTS_FILE, open_artifact, save_weights
from secateur.export.artifact import DENSE_FOLDER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MODEL_FILE).write_bytes(b"onnx")
    (tmp_path / PLAN_FILE).write_text('{"version": 1}')
    (tmp_path / RECIPE_FILE).write_text("model: {name: resnet20}")
    save_weights(tmp_path / WEIGHTS_FILE, {"w": torch.zeros(64, 64)}, {"zoo_name": "resnet20"})
    return tmp_path


def test_a_whole_folder(folder: Path) -> None:
    artifact = open_artifact(folder)
    assert artifact.plan == {"version": 1}
    assert artifact.metadata == {"zoo_name": "resnet20"}
    assert artifact.model == folder / MODEL_FILE
    assert artifact.dense is None
    (folder / DENSE_FOLDER).mkdir()
    assert artifact.dense is None
    (folder / DENSE_FOLDER / MODEL_FILE).write_bytes(b"onnx")
    assert artifact.dense == folder / DENSE_FOLDER


@pytest.mark.parametrize("name", [MODEL_FILE, PLAN_FILE, RECIPE_FILE, WEIGHTS_FILE])
def test_a_missing_or_empty_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(ArtifactError, match=f"{name}: the file is empty"):
        open_artifact(folder)
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} missing"):
        open_artifact(folder)


def test_a_damaged_file_is_named(folder: Path) -> None:
    weights = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(weights[:-1])
    with pytest.raises(ArtifactError, match=WEIGHTS_FILE):
        open_artifact(folder)
    (folder / WEIGHTS_FILE).write_bytes(weights)
    for plan in ("[", "[]"):
        (folder / PLAN_FILE).write_text(plan)
        with pytest.raises(ArtifactError, match=PLAN_FILE):
            open_artifact(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a folder"):
        open_artifact(tmp_path / "nothing")
