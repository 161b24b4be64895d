"""The networks of a folder, side by side in every runtime: what the stage `benchmark` and jobs on ONNX files record."""

from collections.abc import Iterable
from pathlib import Path
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
from secateur.progress import say
from secateur.recipe import BenchmarkStage

ACCURACY_BATCH = 64


def measure_folder(
    folder: Path,
    stage: BenchmarkStage,
    images: zoo.ImageData,
    preprocessing: zoo.Preprocessing,
    *,
    own: Census,
    dense: Census | None,
    test_limit: int | None = None,
) -> dict[str, Any]:
    """Times, memory and accuracy of every runtime, and what the zeros promised and gave, also per layer; plain JSON.

    images        accuracy is measured on their test images where they have labels
    own, dense    what the network in `folder` is, and the one before its zeros; without that one nothing was promised
    raises        RecipeError  nothing has been exported yet
    """
    wanted = stage.accuracy_images or 1
    given = list(_images(images, preprocessing, min(wanted, test_limit or wanted)))
    result = benchmark(
        subjects_of(folder),
        runtime_names=stage.runtimes,
        batches=stage.batches,
        threads=stage.threads,
        data=given if stage.accuracy_images and images.labelled else (),
        input_shape=preprocessing.input_size,
        repeats=stage.repeats,
        warmup=stage.warmup,
        max_seconds=stage.max_seconds,
    )
    say(str(result))
    found: dict[str, Any] = {"benchmark": result.to_dict(), "speedups": None, "advice": [], "layers": []}
    if dense is None:
        return found
    counts = own.relative_to(dense)
    found["smaller"] = own.weights < dense.weights
    table = speedup_table(result, expected_of(counts), smaller=found["smaller"])
    found["speedups"] = table.to_dict()
    found["advice"] = [advice(table, batch, threads) for batch, threads in result.settings()]
    say("\n".join([str(table), *found["advice"]]))
    batch, threads = result.settings()[0]
    found["layers"] = _layers(folder, counts, fill(given[0][0], batch), threads)
    return found


def _images(images: zoo.ImageData, preprocessing: zoo.Preprocessing, limit: int) -> Iterable[tuple[Images, np.ndarray]]:
    split = "test" if len(images.test) else "train"
    return zoo.numpy_batches(images, split, preprocessing, ACCURACY_BATCH, limit=limit)


def _layers(folder: Path, counts: Census, feed: Images, threads: int) -> list[dict[str, Any]]:
    """Every layer's time, dense and compressed, in each runtime that profiles and can run the files."""
    dense, compressed = folder / DENSE_FOLDER / MODEL_FILE, folder / MODEL_FILE
    found: list[dict[str, Any]] = []
    for runtime in PROFILERS:
        try:
            found.append(layer_times(runtime, dense, compressed, feed, counts, threads=threads).to_dict())
        except RunError as error:
            say(f"no times of single layers in {runtime}: {error}")
    return found
