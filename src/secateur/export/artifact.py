"""The folder that a run leaves behind: which files it has and what each one means.

    model.onnx            the compressed network, batch norm and masks folded
    weights.safetensors   its state dict, sparse tensors compact; its metadata says how to build the network
    plan.json             what was decided and done, layer by layer
    recipe.yaml           what was asked for
    model.int8.onnx       where the run quantized: the same network in integers (or model.fp16.onnx, model.bf16.onnx),
    weights.int8.safetensors   the same in little space: integers, sparse ones compact, with the graph (packed_onnx.py)
    scales.json           and the step and zero point of every value and weight
    dense/                model.onnx and weights.safetensors of the network before compression, to compare

Nothing in it is code, and reading it runs none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.errors import ArtifactError
from secateur.export.weights_file import load_weights
from secateur.files import DENSE_FOLDER, MODEL_FILE, QUANTIZED_FILES, read_json

WEIGHTS_FILE = "weights.safetensors"
PLAN_FILE = "plan.json"
RECIPE_FILE = "recipe.yaml"
SCALES_FILE = "scales.json"
QUANTIZED_WEIGHTS = {numbers: f"weights.{numbers}.safetensors" for numbers in QUANTIZED_FILES}
TFLITE_NAMES = ("model.tflite", "model.int8.tflite")
# All that a quantized network may leave in the folder.
QUANTIZED_NAMES = (*QUANTIZED_FILES.values(), *QUANTIZED_WEIGHTS.values(), SCALES_FILE)

_REQUIRED = (MODEL_FILE, WEIGHTS_FILE, PLAN_FILE, RECIPE_FILE)


@dataclass(frozen=True)
class Artifact:
    """A complete folder."""

    folder: Path
    plan: dict[str, Any]
    metadata: dict[str, str]  # of weights.safetensors

    @property
    def model(self) -> Path:
        return self.folder / MODEL_FILE

    @property
    def dense(self) -> Path | None:
        """The folder of the dense network, if the run kept one."""
        path = self.folder / DENSE_FOLDER
        return path if (path / MODEL_FILE).is_file() else None

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS_FILE

    @property
    def recipe(self) -> Path:
        return self.folder / RECIPE_FILE


def open_artifact(folder: Path | str) -> Artifact:
    """The artifact in `folder`, checked for completeness; its weights are read to see that they are whole.

    raises    ArtifactError  when it is not a folder, lacks a file, or a file is empty or damaged
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: not a folder. An artifact is the folder that `secateur compress --out` wrote.")
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(
            f"{folder}: not a finished artifact, {' and '.join(missing)} missing. "
            "Run the same `secateur compress` command again to finish it."
        )
    for name in _REQUIRED:
        if (folder / name).stat().st_size == 0:
            raise ArtifactError(f"{folder / name}: the file is empty.")
    plan = read_json(folder / PLAN_FILE)
    if not isinstance(plan, dict):
        raise ArtifactError(f"{folder / PLAN_FILE}: must hold an object, not {type(plan).__name__}.")
    _, metadata = load_weights(folder / WEIGHTS_FILE)
    return Artifact(folder, plan, metadata)
