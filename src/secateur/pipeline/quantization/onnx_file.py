"""Quantization of an ONNX file from any tool: no torch network is needed.

run/
  request.json                what was asked for; another request does not go on here
  model.onnx                  the float network
  model.int8.onnx ...         see files.py
  plan.json  result.json      what was decided, layer by layer, and what came of it
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from secateur import zoo
from secateur.errors import RecipeError
from secateur.export import MODEL_FILE, PLAN_FILE, QUANTIZED_NAMES
from secateur.files import QUANTIZED_FILES, write_json
from secateur.graph import census_of_onnx, read_model
from secateur.measure import BenchmarkResult, benchmark, subjects_of
from secateur.pipeline.jobs import JobImages
from secateur.pipeline.onnx_files import state_preprocessing_, write_model
from secateur.pipeline.onnx_job import carry_out
from secateur.pipeline.posttraining.images import images_for
from secateur.pipeline.quantization.carry_out import quantize_file
from secateur.pipeline.quantization.files import write_quantized
from secateur.pipeline.quantization.judge import judged
from secateur.pipeline.quantization.options import QuantizeOptions, benchmark_of, stage_of
from secateur.pipeline.quantization.outcome import NO_LABELS, QuantizedNetwork, result_of
from secateur.pipeline.quantization.preview import check_quantize, quantize_line
from secateur.progress import say
from secateur.recipe import BenchmarkStage, QuantizeStage


@dataclass(frozen=True, eq=False)
class QuantizeJob:
    """Everything that `quantize_onnx` needs to know.

    name         of the file
    images       calibrate
    judges       runtimes run their test images, with labels or without
    benchmark    None: nothing is timed
    """

    name: str
    model: onnx.ModelProto
    preprocessing: zoo.Preprocessing
    images: zoo.ImageData
    judges: zoo.ImageData
    stage: QuantizeStage
    benchmark: BenchmarkStage | None = None
    test_limit: int | None = None
    seed: int = 0


def quantize_job(
    file: Path, images: JobImages, options: QuantizeOptions, model_name: str | None, preprocessing: str | None
) -> QuantizeJob:
    """The job on an ONNX file. raises RecipeError for options that it cannot have;  ModelError"""
    if options.weights is not None or options.classes is not None:
        raise RecipeError("an ONNX file has its own weights and classes; leave these options out.")
    if options.epochs:
        raise RecipeError("an ONNX file cannot be trained: give the torch network with its weights instead.")
    if options.tflite:
        raise RecipeError("TensorFlow Lite files are made of torch networks; give one with its weights instead.")
    stage = stage_of(options)
    check_quantize(stage)
    model = read_model(file)
    prepared = zoo.onnx_preprocessing(model, file, stated=preprocessing, name=model_name, crop_pct=options.crop_pct)
    return QuantizeJob(
        str(file),
        model,
        prepared,
        images.calibration or images.data,
        images.data,
        stage,
        benchmark_of(options),
        options.test_limit,
        options.seed,
    )


def describe_job(job: QuantizeJob) -> str:
    """What `quantize_onnx` would do, as text."""
    return "\n".join(
        [
            f"model     {job.name}: {census_of_onnx(job.model, input_shape=job.preprocessing.input_size).statistics()}",
            f"images    {job.images.name}, {job.stage.images} of them calibrate",
            f"quantize  {quantize_line(job.stage)}",
        ]
    )


def quantize_onnx(
    job: QuantizeJob, out: Path, *, overwrite: bool = False, command: str = "secateur.quantize(...)"
) -> QuantizedNetwork:
    """Write the model in other numbers, and what every runtime makes of it, into the folder `out`.

    raises    ArtifactError  the folder holds something else, or is in use
              ModelError, QuantizationError, DataError, ExportError, DiskError
    """
    request = {
        "model": hashlib.sha256(job.model.SerializeToString(deterministic=True)).hexdigest(),
        "preprocessing": job.preprocessing.to_dict(),
        "stage": job.stage.model_dump(mode="json"),
        "benchmark": None if job.benchmark is None else job.benchmark.model_dump(mode="json"),
        "images": [job.images.name, job.judges.name, job.test_limit],
        "seed": job.seed,
    }
    result = carry_out(
        out,
        "quantize",
        {"model": job.name, "command": command},
        request,
        lambda: _carried_out(job, out),
        leaves=(MODEL_FILE, QUANTIZED_FILES[job.stage.numbers]),
        written=(MODEL_FILE, PLAN_FILE, *QUANTIZED_NAMES),
        overwrite=overwrite,
    )
    return QuantizedNetwork.from_dict(out, result)


def _carried_out(job: QuantizeJob, out: Path) -> dict[str, Any]:
    stage, preprocessing, float_file = job.stage, job.preprocessing, out / MODEL_FILE
    calibration, batches, held_out = images_for(job.images, stage, job.seed, preprocessing)
    model = onnx.ModelProto()
    model.CopyFrom(job.model)
    state_preprocessing_(model, preprocessing)
    made = quantize_file(model, stage, batches, held_out, job.seed)
    write_model(model, float_file)
    written = write_quantized(out, stage.numbers, made.model, made.table)
    limit = min(stage.judge_images, job.test_limit or stage.judge_images)
    found = judged(float_file, out / QUANTIZED_FILES[stage.numbers], stage.numbers, job.judges, preprocessing, limit)
    result = result_of(stage, made, calibration, found, [float_file, *written])
    counts = census_of_onnx(model, input_shape=preprocessing.input_size)
    write_json(
        out / PLAN_FILE,
        {
            "version": 1,
            "model": None,
            "preprocessing": preprocessing.to_dict(),
            "classes": list(job.judges.classes) if job.judges.labelled else [],
            "sparsify": [],
            "quantize": {key: result[key] for key in ("numbers", "layers", "floats")},
            "census": counts.to_dict(),
        },
    )
    timed = _timed(job, out)
    return result | {
        "census": {"compressed": counts.to_dict()},
        "benchmark": None if timed is None else timed.to_dict(),
        "notes": [] if job.judges.labelled else [NO_LABELS],
    }


def _timed(job: QuantizeJob, out: Path) -> BenchmarkResult | None:
    stage = job.benchmark
    if stage is None:
        return None
    found = benchmark(
        subjects_of(out),
        runtime_names=stage.runtimes,
        batches=stage.batches,
        threads=stage.threads,
        input_shape=job.preprocessing.input_size,
        repeats=stage.repeats,
        warmup=stage.warmup,
        max_seconds=stage.max_seconds,
    )
    say(str(found))
    return found
