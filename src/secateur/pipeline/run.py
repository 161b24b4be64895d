"""Running a recipe: stages in order, each finished one kept, a killed run going on where it stopped.

    key of a stage = hash(key of the stage before, what the recipe says of it)
    key before the first = hash(starting weights, images, seed)

A stage whose key stands in run.json is not run again: its result is read and its network restored. A folder that
holds the run of another recipe is left alone unless the caller says that it may be overwritten; stages that both
recipes share are kept even then.
"""

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import secateur.pipeline.stages  # noqa: F401  (registers the stages)
from secateur.errors import ArtifactError, DiskError, SecateurError
from secateur.export import DENSE_FOLDER, MODEL_FILE, PLAN_FILE, QUANTIZED_NAMES, TFLITE_NAMES, WEIGHTS_FILE
from secateur.files import remove_leftovers, write_json
from secateur.measure import machine
from secateur.pipeline.check import check_recipe
from secateur.pipeline.context import STAGES_FOLDER, Context, stage_handlers
from secateur.pipeline.network import restore_network_, save_network
from secateur.pipeline.record import (
    COMPRESSING,
    LOCK_FILE,
    RECIPE_FILE,
    RUN_FILE,
    RunRecord,
    StageRecord,
    load_record,
    save_record,
    stage_name,
)
from secateur.pipeline.removals import replay_removals_
from secateur.pipeline.reorder import restore_orders_
from secateur.pipeline.stage_keys import stage_keys
from secateur.progress import say
from secateur.recipe import QuantizeStage, Recipe, Stage, recipe_to_yaml, save_recipe
from secateur.training import distributed

NETWORK_FILE = "model.safetensors"
RESULT_FILE = "result.json"
LEVELS_FOLDER = "levels"

# What a stage leaves in the run folder itself.
ARTIFACT_OF = {
    "export": (MODEL_FILE, WEIGHTS_FILE, PLAN_FILE, DENSE_FOLDER, LEVELS_FOLDER, *QUANTIZED_NAMES, *TFLITE_NAMES),
    "report": ("report.html", "report.md", "report.json", "tables"),
}

# Stages that change the network, and those that every process of a group takes part in.
CHANGING = ("train", *COMPRESSING, "finetune", "quantize")
COLLECTIVE = (*(kind for kind in CHANGING if kind not in ("posttraining", "quantize")), "evaluate")


def run_recipe(context: Context, *, command: str = "secateur.compress(...)", overwrite: bool = False) -> RunRecord:
    """Carry out the recipe of `context` in its folder; `context.network` ends as the compressed network.

    command      how the user started it, for the report
    overwrite    the folder may hold the run of another recipe
    raises       ArtifactError  the folder holds something else, or is in use;  and what the stages raise
    """
    distributed.start()
    folder, recipe = context.folder, context.recipe
    check_recipe(context)
    keys = stage_keys(context)
    with locked(folder):
        if distributed.is_main():
            _claim(folder, recipe, keys, overwrite)
            save_recipe(recipe, folder / RECIPE_FILE)
            save_record(_begun(folder, recipe, keys, command, overwrite))
        distributed.barrier()
        record = load_record(folder)
        finished = len(record.stages)
        for index, (stage, key) in enumerate(zip(recipe.stages, keys, strict=True)):
            if index < finished:
                _restore(context, record.stages[index], stage)
            elif distributed.is_main() or stage.stage in COLLECTIVE:
                record = _run_stage(context, record, stage, key, index)
    return record


def _run_stage(context: Context, record: RunRecord, stage: Stage, key: str, index: int) -> RunRecord:
    name = stage_name(index, stage.stage)
    context.stage_folder = context.folder / STAGES_FOLDER / name
    context.finished = record.stages
    if distributed.is_main():
        _clear_if_of_another_key(context.stage_folder, key)
        say(f"[{index + 1}/{len(record.recipe.stages)}] {stage.stage}")
    if stage.stage in COLLECTIVE:
        distributed.barrier()
    started = time.monotonic()
    # What is kept in memory is what a resumed run would read from the disk.
    result = json.loads(json.dumps(stage_handlers[stage.stage](context, stage), allow_nan=False))
    context.network.eval()
    seconds = time.monotonic() - started
    # A stage that was killed and resumed took the time of all sittings; training knows it.
    seconds = max(seconds, sum(row["seconds"] for row in result.get("history", [])))
    record = RunRecord(
        record.folder,
        record.recipe,
        record.command,
        record.started,
        record.machine,
        (*record.stages, StageRecord(name, stage.stage, key, seconds, result)),
    )
    if distributed.is_main():
        if stage.stage in CHANGING:
            save_network(context.network, context.stage_folder / NETWORK_FILE)
        write_json(context.stage_folder / RESULT_FILE, result)
        save_record(record)
    return record


def _restore(context: Context, done: StageRecord, stage: Stage) -> None:
    """Bring the network to where a finished stage left it."""
    restore_orders_(context, done.result)
    if stage.stage in COMPRESSING or (isinstance(stage, QuantizeStage) and stage.method == "qat"):
        context.keep_dense()
    replay_removals_(context.network, done.result.get("removals", []))
    if stage.stage in CHANGING:
        restore_network_(context.network, context.folder / STAGES_FOLDER / done.name / NETWORK_FILE)
    if distributed.is_main():
        say(f"{done.name}: finished before, kept")


def _claim(folder: Path, recipe: Recipe, keys: list[str], overwrite: bool) -> None:
    """Make sure that writing into `folder` destroys nothing that the user has not given up."""
    if not (folder / RUN_FILE).exists():
        strangers = sorted(p.name for p in folder.iterdir() if p.name != LOCK_FILE and not p.name.endswith(".part"))
        if strangers == [RECIPE_FILE] and (folder / RECIPE_FILE).read_text() == recipe_to_yaml(recipe):
            return  # killed between the recipe and the record
        if strangers and not overwrite:
            raise ArtifactError(
                f"{folder}: holds other files ({', '.join(strangers[:3])}) and no run of Secateur; "
                "choose an empty or new folder, or allow overwriting (--overwrite)."
            )
        return
    if overwrite:
        return
    before = load_record(folder)
    shared = [old.key == new for old, new in zip(before.stages, keys, strict=False)]
    # A longer list of the same stages goes on with the run; anything else would replace results.
    if not all(shared) or len(keys) < len(before.stages):
        raise ArtifactError(
            f"{folder}: holds the run of another recipe, weights, images or files that stages "
            f"read{_difference(before.recipe, recipe)}. "
            "Choose another folder, or allow overwriting (--overwrite)."
        )


def _difference(old: Recipe, new: Recipe) -> str:
    """The first key in which two recipes differ, as ` (stages.1.sparsity: 0.8 there, 0.5 here)`."""

    def first(a: Any, b: Any, at: str) -> str | None:
        if isinstance(a, dict) and isinstance(b, dict):
            pairs = [(key, a.get(key), b.get(key)) for key in (*a, *(k for k in b if k not in a))]
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            pairs = [(str(i), x, y) for i, (x, y) in enumerate(zip(a, b, strict=True))]
        else:
            return None if a == b else f" ({at.lstrip('.')}: {_short(a)} there, {_short(b)} here)"
        return next((found for key, x, y in pairs if (found := first(x, y, f"{at}.{key}"))), None)

    return first(old.model_dump(mode="json"), new.model_dump(mode="json"), "") or ""


def _short(value: Any) -> str:
    text = f"{len(value)} entries" if isinstance(value, list | dict) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _begun(folder: Path, recipe: Recipe, keys: list[str], command: str, overwrite: bool) -> RunRecord:
    """The record to go on with: finished stages of this recipe, none of another one's."""
    remove_leftovers(folder)
    kept: list[StageRecord] = []
    started = datetime.now(UTC).isoformat(timespec="seconds")
    before = _previous(folder, overwrite)
    if before is not None:
        started = before.started
        for old, new in zip(before.stages, keys, strict=False):
            if old.key != new or not _has_its_files(folder, old):
                break
            kept.append(old)
    _remove_stale(folder, {stage.kind for stage in kept})
    return RunRecord(folder, recipe, command, started, machine().to_dict(), tuple(kept))


def _has_its_files(folder: Path, stage: StageRecord) -> bool:
    """Whether everything is still there that a finished stage says it wrote."""
    files = list(stage.result.get("files", ()))
    if stage.kind in CHANGING:
        files.append(f"{STAGES_FOLDER}/{stage.name}/{NETWORK_FILE}")
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        say(f"{stage.name}: {missing[0]} is gone; the stage runs again")
    return not missing


def _remove_stale(folder: Path, kept: set[str]) -> None:
    """Delete what stages that are to be run (again) have written: half of it would look like a whole artifact."""
    for kind, names in ARTIFACT_OF.items():
        for path in (folder / name for name in names if kind not in kept):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _previous(folder: Path, overwrite: bool) -> RunRecord | None:
    """The run that the folder holds. raises ArtifactError when it is damaged and may not be overwritten."""
    if not (folder / RUN_FILE).exists():
        return None
    try:
        return load_record(folder)
    except SecateurError as error:
        if not overwrite:
            raise
        say(f"starting anew: {error}")
        return None


def _clear_if_of_another_key(folder: Path, key: str) -> None:
    """Remove what another recipe's stage of this name left behind; keep the checkpoints of this one."""
    marker = folder / "key"
    if folder.is_dir() and (not marker.is_file() or marker.read_text() != key):
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(key)
    except OSError as error:
        raise DiskError(f"{folder}: cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this run; a second process that wants it gets a sentence."""
    if not distributed.is_main():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise DiskError(f"{folder}: cannot be written: {error.strerror or error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtifactError(f"{folder}: another process is working on this run.") from error
        yield
