"""What a run has done so far, as read from its folder.

run/
  run.json                    command, versions, machine, and every stage that is finished
  recipe.yaml                 what was asked for, every default written out
  stages/03-sparsify/         result.json, model.safetensors (the network after it), checkpoint
  model.onnx weights.safetensors plan.json dense/     the artifact (stage export)
  report.html report.md report.json tables/           (stage report)
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from secateur.errors import ArtifactError
from secateur.export import RECIPE_FILE
from secateur.files import read_json, write_json
from secateur.recipe import Recipe, load_recipe

RUN_FILE = "run.json"
LOCK_FILE = ".lock"
FORMAT_VERSION = 1
# Kinds of stages after which the network is no longer the dense one, and those that train.
COMPRESSING = ("sparsify", "posttraining", "remove_channels", "remove_branches", "thin")
TRAINING = ("train", "sparsify", "remove_channels", "remove_branches", "finetune")
ANEW = "Start the run anew with --overwrite."


@dataclass(frozen=True)
class StageRecord:
    """One finished stage; `key` is the hash of everything its result depends on."""

    name: str
    kind: str
    key: str
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """A run folder: what was asked, on which machine, and the results of the finished stages in order."""

    folder: Path
    recipe: Recipe
    command: str
    started: str
    machine: dict[str, Any]
    stages: tuple[StageRecord, ...] = ()

    def results(self, kind: str) -> list[dict[str, Any]]:
        """Results of all finished stages of one kind, in order."""
        return [stage.result for stage in self.stages if stage.kind == kind]

    @property
    def finished(self) -> bool:
        return len(self.stages) == len(self.recipe.stages)

    @property
    def seconds(self) -> float:
        """Time spent in all finished stages, over all sittings."""
        return sum(stage.seconds for stage in self.stages)


def stage_name(index: int, kind: str) -> str:
    """Folder name of a stage: `03-sparsify`."""
    return f"{index + 1:02d}-{kind}"


def save_record(record: RunRecord) -> None:
    """Write run.json, atomically."""
    value = {
        "version": FORMAT_VERSION,
        "command": record.command,
        "started": record.started,
        "machine": record.machine,
        "stages": [{k: v for k, v in asdict(stage).items() if k != "result"} for stage in record.stages],
    }
    write_json(record.folder / RUN_FILE, value)


def load_record(folder: Path | str) -> RunRecord:
    """The record of a run folder. raises ArtifactError when it is none, or one that is damaged."""
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise ArtifactError(f"{folder}: not a run folder of `secateur compress` (it has no {RUN_FILE}).")
    value = read_json(folder / RUN_FILE)
    if not isinstance(value, dict) or value.get("version") != FORMAT_VERSION:
        raise ArtifactError(f"{folder / RUN_FILE}: written by another version of Secateur. {ANEW}")
    try:
        stages = tuple(StageRecord(**stage, result=_result(folder, stage["name"])) for stage in value["stages"])
        command, started, machine = value["command"], value["started"], value["machine"]
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / RUN_FILE}: damaged ({error!r}). {ANEW}") from error
    recipe = load_recipe(folder / RECIPE_FILE)
    return RunRecord(folder, recipe, command, started, machine, stages)


def _result(folder: Path, name: str) -> dict[str, Any]:
    try:
        return read_json(folder / "stages" / name / "result.json")
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: this run is damaged: {error} {ANEW}") from error
