"""The verbs for anybody with an ONNX file: compile, benchmark, and what the zeros of a run bought. Without torch.

    import secateur

    session = secateur.compile("model.onnx")
    outputs = session.run({"input": images})

torch is imported only when it must be: to compile a torch network, or to time a run folder in torch as well.
"""

import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from secateur import graph, measure
from secateur.errors import ModelError, RecipeError
from secateur.files import MODEL_FILE
from secateur.measure.litert_runtime import image_shape

if TYPE_CHECKING:
    from torch import nn

    from secateur.engine.session import Session


def compile(
    model: "str | os.PathLike[str] | bytes | onnx.ModelProto | nn.Module",
    *,
    threads: int | None = None,
    batch: int = 1,
    primitive: str | Mapping[str, str] = "auto",
    format: str = "auto",
    tune: bool = False,
    denormals: str = "keep",
    precision: str = "float32",
    images: Any = None,
) -> "Session":
    """A network compiled for this machine, whose zeros are used where that is faster.

    model        an ONNX file, its bytes, a model in memory, a run folder of `secateur compress`, or a torch network,
                 which is exported first
    threads      of one run; the cores that this process may use when not given
    batch        batch size that is compiled at once; others are compiled when they first come
    primitive    how convolutions read their input: direct, gemm (im2col), pack (spatial pack), or auto for the best of
                 each layer; a mapping from layers to these gives single layers
    format       auto uses the zeros where that is faster, dense ignores them
    tune         time candidates on this machine (seconds to minutes; results are kept in the user's cache), and let
                 ONNX Runtime run the network if it is clearly faster
    denormals    keep, or flush to compute with denormal numbers as zero
    precision    float32; or bf16, on processors that have it: convolutions and products with weights round what they
                 multiply to 8 significant bits, and sum in float32
    images       of a torch network without `preprocessing`: a batch of images, which says their size. The exported
                 network is checked on them
    raises       ModelError, EngineError, ExportError
    """
    if isinstance(model, str | os.PathLike):
        source: Any = model_file(model)
    elif isinstance(model, bytes | onnx.ModelProto):
        source = model
    else:
        source = _exported(model, images)
    from secateur.engine.session import compile_onnx

    return compile_onnx(
        source,
        threads=threads,
        batch=batch,
        primitive=primitive,
        format=format,
        tune=tune,
        denormals=denormals,
        precision=precision,
    )


def model_file(path: str | os.PathLike[str]) -> Path:
    """The ONNX file that a path means: itself, or the compressed network of a run folder. raises ModelError."""
    found = Path(path)
    if not found.is_dir():
        return found
    if not (found / MODEL_FILE).is_file():
        raise ModelError(f"{found}: holds no {MODEL_FILE}; it is not a run folder, or nothing has been exported yet.")
    return found / MODEL_FILE


def _exported(network: Any, images: Any) -> onnx.ModelProto:
    """A torch network as an ONNX model in memory."""
    if importlib.util.find_spec("torch") is None:
        raise ModelError(
            f"a {type(network).__name__} cannot be compiled: give an ONNX file, its bytes or a ModelProto."
        )
    from torch import nn

    from secateur import export, zoo

    if not isinstance(network, nn.Module):
        raise ModelError(f"a {type(network).__name__} cannot be compiled: give an ONNX file or a torch network.")
    batch = None if images is None else np.asarray(images, np.float32)
    if batch is not None and batch.ndim != 4:
        raise ModelError(f"images have the shape (count, channels, height, width), not {batch.shape}.")
    size = zoo.preprocessing_of(network).input_size if batch is None else batch.shape[1:]
    with tempfile.TemporaryDirectory() as folder:
        written = export.export_onnx(network, Path(folder) / MODEL_FILE, size)
        if batch is not None:
            export.check_onnx(network, written, [batch])
        return graph.read_model(written)


def benchmark(
    target: str | Path,
    *,
    runtimes: Sequence[str] = (),
    batches: Sequence[int] = (1,),
    threads: Sequence[int] = (),
    repeats: int = 100,
    warmup: int = 20,
    max_seconds: float = 30.0,
    data: str | None = None,
    images: int = 512,
    input_size: Sequence[int] | None = None,
) -> measure.BenchmarkResult:
    """Time a run folder (its networks side by side), or one ONNX or TensorFlow Lite file, in every runtime.

    runtimes    by default all that are installed and can run the target
    data        images to measure accuracy on, prepared as the run folder or the ONNX file's metadata says
    raises      SecateurError
    """
    subjects = measure.subjects_of(target)
    # torch runs a network that it can rebuild, not an ONNX file.
    if any(subject.artifact for subject in subjects) or any(name.startswith("torch") for name in runtimes):
        register_torch()
    if subjects[0].tflite is not None and subjects[0].onnx is None:
        if data is not None:
            raise RecipeError(f"{target}: does not say how its images are prepared; measure accuracy on a run folder.")
        shape, pairs = image_shape(subjects[0].tflite), ()
    else:
        file = model_file(target)
        shape = graph.census_of_onnx(file, input_shape=input_size).input_shape
        pairs = _labelled(file, data, images) if data else ()
    return measure.benchmark(
        subjects,
        runtime_names=runtimes,
        batches=batches,
        threads=threads,
        data=pairs,
        input_shape=shape,
        repeats=repeats,
        warmup=warmup,
        max_seconds=max_seconds,
    )


def register_torch() -> None:
    """Make torch's runtimes known where torch is installed."""
    try:
        importlib.import_module("secateur.pipeline.torch_runtimes")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("secateur"):
            raise


def _labelled(file: Path, data: str, images: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Images and labels, prepared as an ONNX file that Secateur wrote says."""
    from secateur import zoo

    stated = {entry.key: entry.value for entry in graph.read_model(file).metadata_props}
    if "preprocessing" not in stated:
        raise RecipeError(f"{file}: does not say how its images are prepared; measure accuracy on a run folder.")
    try:
        prepared = zoo.Preprocessing.from_dict(json.loads(stated["preprocessing"]))
    except (json.JSONDecodeError, TypeError) as error:
        raise ModelError(f"{file}: its metadata 'preprocessing' is damaged: {error}.") from error
    return zoo.numpy_batches(zoo.data(data), "test", prepared, 64, limit=images)


def speedups(target: str | Path, result: measure.BenchmarkResult) -> measure.SpeedupTable:
    """What the zeros of a run promised and what each runtime of `result` gave."""
    return measure.speedup_table(result, measure.expected_of(graph.census_of_onnx(model_file(target))))
