"""A torch network as a TensorFlow Lite file, in floats and in integers, by Google's own converter.

The converter (litert-torch, with ai-edge-quantizer) is large and belongs to no extra of this package; where it is not
installed, one sentence says how to get it. Images keep their layout (batch, channels, height, width). The integers are
the converter's: ranges by extremes, int8 activations, a step for each output channel.
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from secateur.errors import ExportError
from secateur.export.onnx_file import folded_copy
from secateur.files import atomic_path

CONVERTER = "litert_torch"


def tflite_missing() -> str | None:
    """What is missing to write TensorFlow Lite files, as a sentence; None where nothing is."""
    if importlib.util.find_spec(CONVERTER) is not None:
        return None
    return (
        "TensorFlow Lite files are written by Google's converter, which is not installed: pip install litert-torch "
        "(it brings ai-edge-quantizer and jax, and needs torch below 2.15)."
    )


def export_tflite(model: nn.Module, path: Path | str, input_size: Sequence[int], *, batch: int = 1) -> Path:
    """Write `model` in floats; it stays as it is.

    input_size    (channels, height, width) of one image
    batch         that the file takes
    raises        ExportError  no converter, or a network that it cannot convert;  DiskError
    """
    converter = _converter(path)
    example = (torch.zeros(batch, *input_size),)
    try:
        with _quiet():
            converted = converter.convert(folded_copy(model), example)
            with atomic_path(path) as temporary:
                converted.export(str(temporary))
    except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError, AttributeError) as error:
        raise ExportError(f"{path}: litert-torch cannot convert the network: {_first_line(error)}.") from error
    return Path(path)


def quantize_tflite(source: Path | str, path: Path | str, batches: Iterable[NDArray[np.float32]]) -> Path:
    """Write a float file in 8-bit integers.

    source     a float file of `export_tflite` with batch 1
    batches    float32 (images, channels, height, width), which calibrate
    raises     ExportError, DiskError
    """
    _converter(path)
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe  # pyright: ignore[reportMissingImports]

    key, names = next(iter(Interpreter(str(source)).get_signature_list().items()))
    feeds = [{names["inputs"][0]: image[None]} for images in batches for image in images]
    try:
        with _quiet():
            work: Any = quantizer.Quantizer(str(source))
            work.load_quantization_recipe(recipe.static_wi8_ai8())
            made: Any = work.quantize(work.calibrate({key: feeds}))
            with atomic_path(path) as temporary:
                made.export_model(str(temporary), overwrite=True)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ExportError(f"{path}: ai-edge-quantizer cannot quantize the network: {_first_line(error)}.") from error
    return Path(path)


def _converter(path: Path | str) -> Any:
    missing = tflite_missing()
    if missing is not None:
        raise ExportError(f"{path}: {missing}")
    with _quiet():
        return importlib.import_module(CONVERTER)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter reports steps and warnings; the user wants one sentence or nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
