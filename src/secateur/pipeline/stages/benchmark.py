"""Stage `benchmark`: the compressed and the dense network, side by side, in every runtime."""

from pathlib import Path
from typing import Any

import secateur.pipeline.torch_runtimes  # noqa: F401  (registers torch and torch.compile)
from secateur import zoo
from secateur.errors import RecipeError
from secateur.export import DENSE_FOLDER, MODEL_FILE
from secateur.measure import BenchmarkResult, Subject, benchmark, expected_of, speedup_table
from secateur.pipeline.context import Context, stage_handlers
from secateur.progress import say
from secateur.recipe import BenchmarkStage
from secateur.sparsity import census

ACCURACY_BATCH = 64


@stage_handlers.register("benchmark")
def benchmark_stage(context: Context, stage: BenchmarkStage) -> dict[str, Any]:
    """returns    times, memory and accuracy of every runtime, and what the zeros promised and gave

    raises        RecipeError  nothing has been exported yet
    """
    result = benchmark(
        subjects_of(context.folder),
        runtime_names=stage.runtimes,
        batches=stage.batches,
        threads=stage.threads,
        data=_images(context, stage.accuracy_images),
        input_shape=context.preprocessing.input_size,
        repeats=stage.repeats,
        warmup=stage.warmup,
        max_seconds=stage.max_seconds,
    )
    say(str(result))
    return {"benchmark": result.to_dict(), "speedups": _speedups(context, result)}


def subjects_of(folder: Path) -> list[Subject]:
    """The networks of a run folder: dense, if it was kept, and compressed. raises RecipeError."""
    subjects = []
    for name, home in (("dense", folder / DENSE_FOLDER), ("compressed", folder)):
        if (home / MODEL_FILE).is_file():
            subjects.append(Subject(name, onnx=home / MODEL_FILE, artifact=home))
    if not any(subject.name == "compressed" for subject in subjects):
        raise RecipeError(f"{folder}: holds no {MODEL_FILE} to measure; a stage 'export' must come first.")
    return subjects


def _images(context: Context, limit: int) -> Any:
    if not limit:
        return ()
    return zoo.numpy_batches(context.images, "test", context.preprocessing, ACCURACY_BATCH, limit=limit)


def _speedups(context: Context, result: BenchmarkResult) -> dict[str, Any] | None:
    if context.dense is None:
        return None
    table = speedup_table(result, expected_of(census(context.network)))
    say(str(table))
    return table.to_dict()
