"""Sparsity after training for an ONNX file: Gram matrices through ONNX Runtime, weights written back.

run/
  request.json                  what was asked for; another request does not go on here
  work/                         Gram matrices, database, layers that are done, time spent
  model.onnx                    the same graph with other weights and biases, read again and compared
  weights.safetensors           its tensors, sparse ones compact
  dense/model.onnx              the file as it was
  plan.json  result.json        what was decided, layer by layer, and what came of it

Tuning needs a torch network, which is made of the file (onnx_twin.py); where that cannot be done, the closed form is
the result. What changes channels' order, and reconstruction, only torch networks can have: it is refused.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from secateur.errors import ExportError, ModelError, PosttrainingError, QuantizationError, RecipeError
from secateur.export import DENSE_FOLDER, MODEL_FILE, PLAN_FILE, WEIGHTS_FILE, save_weights
from secateur.export.check import TOLERANCE
from secateur.files import write_json
from secateur.graph import census_of_onnx, read_model
from secateur.pipeline.folder_benchmark import measure_folder
from secateur.pipeline.layer_seconds import kept_seconds, measure_file_seconds
from secateur.pipeline.onnx_files import made, state_preprocessing_, write_model
from secateur.pipeline.onnx_job import carry_out
from secateur.pipeline.posttraining.agreement import agreement_of
from secateur.pipeline.posttraining.choices import plans_for
from secateur.pipeline.posttraining.closed_form import Facts, sparsify_closed_form_
from secateur.pipeline.posttraining.gradients import TuningJob
from secateur.pipeline.posttraining.images import gram_images, images_for
from secateur.pipeline.posttraining.jobs import OnnxJob
from secateur.pipeline.posttraining.onnx_accuracy import check_classes, onnx_accuracy
from secateur.pipeline.posttraining.onnx_tuning import check_tuning, checked_twin, tune_onnx_
from secateur.pipeline.posttraining.onnx_twin import Twin, twin_of
from secateur.pipeline.posttraining.outcome import NO_LABELS, Sparsified
from secateur.pipeline.posttraining.preview import check_posttraining, preview
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.losses import Batches
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.progress import say
from secateur.recipe import PosttrainingStage
from secateur.sparsity import LayerSeconds
from secateur.training import Accuracy
from secateur.zoo import ImageData

WORK_FOLDER = "work"
_FILES = (MODEL_FILE, f"{DENSE_FOLDER}/{MODEL_FILE}", WEIGHTS_FILE, f"{DENSE_FOLDER}/{WEIGHTS_FILE}")
LEAVES = (MODEL_FILE, WEIGHTS_FILE, PLAN_FILE)


def sparsify_onnx(
    job: OnnxJob, out: Path, *, overwrite: bool = False, command: str = "secateur.sparsify(...)"
) -> Sparsified:
    """Write the model with zeros as the stage says, and what there is to know of it, into the folder `out`.

    raises    RecipeError    the stage asks for what only torch can do
              ArtifactError  the folder holds something else, or is in use
              ModelError, SparsityError, PosttrainingError, DataError, ExportError, DiskError
    """
    dense = _checked(job)
    if job.data is not None:
        check_classes(dense, job.data)
    request = {
        "model": dense.digest(),
        "preprocessing": job.preprocessing.to_dict(),
        "stage": job.stage.model_dump(mode="json"),
        "images": job.images.name,
        "data": None if job.data is None else [job.data.name, job.test_limit],
        "benchmark": None if job.benchmark is None else job.benchmark.model_dump(mode="json"),
        "seed": job.seed,
    }
    result = carry_out(
        out,
        "sparsify",
        {"model": job.name, "command": command},
        request,
        lambda: _carried_out(job, dense, out),
        leaves=LEAVES,
        written=(*LEAVES, DENSE_FOLDER, WORK_FOLDER),
        overwrite=overwrite,
    )
    return Sparsified.from_dict(out, result)


def preview_onnx(job: OnnxJob) -> str:
    """What `sparsify_onnx` may change, as text; nothing is written. raises as it does"""
    subject = _checked(job)
    stage, notes = job.stage, _left_out(subject)
    if stage.tuning is not None:
        twin, reason = _twin(job, lambda: twin_of(subject))
        stage = stage if twin is not None else stage.model_copy(update={"tuning": None})
        notes += reason
    return "\n".join([preview(subject.layers, stage), *notes])


def _checked(job: OnnxJob) -> OnnxSubject:
    check_for_onnx(job.stage)
    subject = OnnxSubject(job.model, job.preprocessing)
    check_posttraining(subject.layers, job.stage)
    return subject


def check_for_onnx(stage: PosttrainingStage) -> None:
    """raises RecipeError for what needs torch"""
    needs_torch = {
        "permute or rearrange, which change the order of channels": stage.permute or stage.rearrange,
        "reconstruction, which trains": stage.reconstruction is not None or stage.method == "magnitude",
    }
    for what, wanted in needs_torch.items():
        if wanted:
            raise RecipeError(f"an ONNX file cannot have {what}: give the torch network with its weights instead.")
    if stage.tuning is not None:
        check_tuning(stage.tuning)


def _twin(job: OnnxJob, make: Callable[[], Twin]) -> tuple[Twin | None, list[str]]:
    """(what `make` gives, or None, and why). raises PosttrainingError where tuning was asked for"""
    try:
        return make(), []
    except (ModelError, PosttrainingError, QuantizationError) as error:
        if job.tuning_asked:
            raise PosttrainingError(f"{job.name}: cannot be tuned: {error}") from error
        reason = f"not tuned, the closed form is the result: {error}"
        say(f"posttraining: {reason}")
        return None, [reason]


def _carried_out(job: OnnxJob, dense: OnnxSubject, out: Path) -> dict[str, Any]:
    stage, data, preprocessing, work = job.stage, job.data, job.preprocessing, made(out / WORK_FOLDER)
    before = None if data is None else _told_accuracy(dense, data, job.test_limit)
    # As of torch networks, measuring accuracy is not what the budget is for.
    box = TimeBox(stage.budget, work)
    calibration, batches, held_out = images_for(job.images, stage, job.seed, preprocessing)
    subject = dense.copy()
    notes = _left_out(dense)
    teacher: Twin | None = None
    if stage.tuning is not None:
        # Beforehand, so that a tuning that was asked for and cannot be had costs nobody the time of the closed form.
        teacher, reason = _twin(job, lambda: checked_twin(dense, batches))
        notes += reason
    before_counts = census_of_onnx(dense.model, input_shape=preprocessing.input_size)
    facts = Facts(
        before_counts,
        lambda pattern: kept_seconds(work, pattern, lambda: _seconds(dense, pattern, stage)),
    )
    images = gram_images(calibration, preprocessing, stage, batches, job.seed)
    chosen = sparsify_closed_form_(subject, dense, images, held_out, stage, work, box, facts, job.seed)
    box.note()
    plans = plans_for(subject, chosen, stage)
    for plan in plans:
        say(f"posttraining: {plan.pattern} {100 * plan.achieved:.2f} % of {plan.base}, {len(plan.levels)} layers")
    tuned = None
    if teacher is not None and stage.tuning is not None:
        student, reason = _twin(job, lambda: checked_twin(subject, batches))
        notes += reason
        if student is not None:
            settings = TuningJob(stage.tuning, calibration, held_out, plans, box, work, job.seed)
            tuned = tune_onnx_(subject, student, teacher, settings)
            box.note()
    state_preprocessing_(subject.model, preprocessing)
    write_model(subject.model, out / MODEL_FILE)
    write_model(dense.model, out / DENSE_FOLDER / MODEL_FILE)
    written = OnnxSubject(read_model(out / MODEL_FILE), preprocessing)
    check = _check(written, subject, held_out, out / MODEL_FILE)
    save_weights(out / WEIGHTS_FILE, _tensors(subject.model), {"producer": "secateur"})
    save_weights(out / DENSE_FOLDER / WEIGHTS_FILE, _tensors(dense.model), {"producer": "secateur"})
    agreement = agreement_of(written, dense, held_out)
    say(f"posttraining: {agreement}")
    spent = box.spent
    after = None if data is None else _told_accuracy(written, data, job.test_limit)
    counts = census_of_onnx(subject.model, input_shape=preprocessing.input_size)
    timed = None
    if job.benchmark is not None:
        judges = data or job.images
        timed = measure_folder(
            out, job.benchmark, judges, preprocessing, own=counts, dense=before_counts, test_limit=job.test_limit
        )
    write_json(
        out / PLAN_FILE,
        {
            "version": 1,
            "model": None,
            "preprocessing": preprocessing.to_dict(),
            "classes": [] if data is None else list(data.classes),
            "sparsify": [plan.to_dict() for plan in plans],
            "census": counts.to_dict(),
        },
    )
    return {
        "plans": [plan.to_dict() for plan in plans],
        "levels": None if chosen.stitched is None else chosen.stitched.to_dict(),
        "calibration": calibration.to_dict(),
        "agreement": asdict(agreement),
        "dense_accuracy": None if before is None else asdict(before),
        "accuracy": None if after is None else asdict(after),
        "check": check,
        "census": {"dense": before_counts.to_dict(), "compressed": counts.to_dict()},
        "files": {name: (out / name).stat().st_size for name in _FILES},
        "benchmark": timed,
        "steps": [] if tuned is None else tuned.steps,
        "tuning": None if tuned is None else tuned.rows,
        "notes": notes if data is not None else [*notes, NO_LABELS],
        "budget": {"seconds": stage.budget, "spent": spent},
    }


def _seconds(dense: OnnxSubject, pattern: str, stage: PosttrainingStage) -> LayerSeconds:
    say(f"posttraining: measures how long every layer takes with {pattern} zeros")
    return measure_file_seconds(dense.model, dense.preprocessing, pattern, threads=stage.threads)


def _left_out(subject: OnnxSubject) -> list[str]:
    return [f"{name} stays as it is: {reason}" for name, reason in subject.left_out.items()]


def _told_accuracy(subject: OnnxSubject, data: ImageData, limit: int | None) -> Accuracy:
    found = onnx_accuracy(subject, data, limit)
    say(str(found))
    return found


def _check(written: OnnxSubject, subject: OnnxSubject, batches: Batches, path: Path) -> dict[str, Any]:
    """The file that was written, run by ONNX Runtime, against what is meant to be in it. raises ExportError"""
    error = scale = 0.0
    same = seen = 0
    for images in batches():
        expected, actual = subject.run(images), written.run(images)
        same, seen = same + int((expected.argmax(1) == actual.argmax(1)).sum()), seen + len(images)
        error = max(error, float((expected - actual).abs().max()))
        scale = max(scale, float(expected.abs().max()))
    relative = error / scale if scale else error
    if not relative <= TOLERANCE:
        raise ExportError(f"{path}: its outputs differ by {relative:.1e} of the largest logit from what was written.")
    # In order: a layer may be called after its tensor, and have got one of its own.
    for layer, own in zip(subject.layers, written.layers, strict=True):
        if not torch.equal(written.weight(own.name), subject.weight(layer.name)):
            raise ExportError(f"{path}: the weight of {layer.name} is not what was written.")
    agreement = 100.0 * same / seen if seen else 0.0
    return {
        "max_abs_error": error,
        "max_rel_error": relative,
        "tolerance": TOLERANCE,
        "top1_agreement": agreement,
        "images": seen,
    }


def _tensors(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Initializers that torch knows the type of."""
    found: dict[str, Tensor] = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind in "fiu?b" and array.dtype.itemsize <= 8:
            found[tensor.name] = torch.from_numpy(array.copy())
    return found
