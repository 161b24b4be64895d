"""Stage `benchmark`: the compressed and the dense network, side by side, in every runtime."""

from collections.abc import Iterable
from typing import Any

import numpy as np

import secateur.pipeline.torch_runtimes  # noqa: F401  (registers torch and torch.compile)
from secateur import zoo
from secateur.export import DENSE_FOLDER, MODEL_FILE
from secateur.graph import Census
from secateur.measure import (
    PROFILERS,
    RunError,
    advice,
    benchmark,
    expected_of,
    layer_times,
    speedup_table,
    subjects_of,
)
from secateur.measure.accuracy import fill
from secateur.measure.runtime import Images
from secateur.pipeline.context import Context, stage_handlers
from secateur.progress import say
from secateur.recipe import BenchmarkStage
from secateur.sparsity import census

ACCURACY_BATCH = 64


@stage_handlers.register("benchmark")
def benchmark_stage(context: Context, stage: BenchmarkStage) -> dict[str, Any]:
    """returns    times, memory and accuracy of every runtime, and what the zeros promised and gave, also per layer

    raises        RecipeError  nothing has been exported yet
    """
    images = list(_images(context, stage.accuracy_images or 1))
    result = benchmark(
        subjects_of(context.folder),
        runtime_names=stage.runtimes,
        batches=stage.batches,
        threads=stage.threads,
        data=images if stage.accuracy_images and context.images.labelled else (),
        input_shape=context.preprocessing.input_size,
        repeats=stage.repeats,
        warmup=stage.warmup,
        max_seconds=stage.max_seconds,
    )
    say(str(result))
    found: dict[str, Any] = {"benchmark": result.to_dict(), "speedups": None, "advice": [], "layers": []}
    if context.dense is None:
        return found
    own, dense = census(context.network), census(context.dense)
    counts = own.relative_to(dense)
    found["smaller"] = own.weights < dense.weights
    table = speedup_table(result, expected_of(counts), smaller=found["smaller"])
    found["speedups"] = table.to_dict()
    found["advice"] = [advice(table, batch, threads) for batch, threads in result.settings()]
    say("\n".join([str(table), *found["advice"]]))
    batch, threads = result.settings()[0]
    found["layers"] = _layers(context, counts, fill(images[0][0], batch), threads)
    return found


def _images(context: Context, limit: int) -> Iterable[tuple[Images, np.ndarray]]:
    limit = min(limit, context.recipe.data.test_limit or limit)
    split = "test" if len(context.images.test) else "train"
    return zoo.numpy_batches(context.images, split, context.preprocessing, ACCURACY_BATCH, limit=limit)


def _layers(context: Context, counts: Census, feed: Images, threads: int) -> list[dict[str, Any]]:
    """Every layer's time, dense and compressed, in each runtime that profiles and can run the files."""
    dense, compressed = context.folder / DENSE_FOLDER / MODEL_FILE, context.folder / MODEL_FILE
    found: list[dict[str, Any]] = []
    for runtime in PROFILERS:
        try:
            found.append(layer_times(runtime, dense, compressed, feed, counts, threads=threads).to_dict())
        except RunError as error:
            say(f"no times of single layers in {runtime}: {error}")
    return found
