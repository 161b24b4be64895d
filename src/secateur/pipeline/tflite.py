"""TensorFlow Lite files of an artifact: written, run by LiteRT, compared with torch.

model.tflite         the network in floats, batch 1
model.int8.tflite    the same in integers, where a stage `quantize` calibrated some; the converter's own ranges
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.errors import ExportError, MeasureError
from secateur.export import MODEL_FILE, folded_copy
from secateur.export.check import TOLERANCE
from secateur.export.tflite import export_tflite, quantize_tflite
from secateur.files import QUANTIZED_FILES
from secateur.measure import Subject, runtimes
from secateur.measure.accuracy import run_all
from secateur.measure.subjects import TFLITE
from secateur.pipeline.posttraining.images import Batches
from secateur.progress import say


def write_tflite(
    network: nn.Module,
    folder: Path,
    input_size: tuple[int, ...],
    images: Iterable[np.ndarray],
    calibration: Batches | None,
) -> tuple[list[Path], dict[str, Any]]:
    """(files, how near each is to torch on `images`); integers where there are images that calibrate.

    raises    ExportError  no converter, a network that it cannot convert, or a float file that computes something else
    """
    checked = [np.ascontiguousarray(batch, np.float32) for batch in images]
    written = [export_tflite(network, (folder / MODEL_FILE).with_suffix(TFLITE), input_size)]
    checks = {written[0].name: _compared(network, written[0], checked, TOLERANCE)}
    if calibration is not None:
        path = (folder / QUANTIZED_FILES["int8"]).with_suffix(TFLITE)
        written.append(quantize_tflite(written[0], path, (batch.numpy() for batch in calibration())))
        checks[path.name] = _compared(network, path, checked, None)
    for name, check in checks.items():
        say(f"export: {name}, same class as torch for {check['same_class']:.2f} % of {check['images']} images")
    return written, checks


def _compared(network: nn.Module, path: Path, images: list[np.ndarray], tolerance: float | None) -> dict[str, Any]:
    plain = folded_copy(network)
    try:
        run = runtimes["litert"]().load(Subject(path.stem, tflite=path), 1, 1)
        found = np.concatenate([run_all(run, batch, 1) for batch in images])
    except MeasureError as error:
        raise ExportError(f"{path}: LiteRT cannot run what was written: {error}") from error
    with torch.inference_mode():
        wanted = np.concatenate([plain(torch.from_numpy(batch)).numpy() for batch in images])
    scale = float(np.abs(wanted).max()) or 1.0
    error = float(np.abs(found - wanted).max()) / scale
    if tolerance is not None and not error <= tolerance:
        raise ExportError(f"{path}: its outputs differ from torch's by {error:.1e} of the largest logit.")
    return {
        "max_rel_error": error,
        "same_class": 100.0 * float((found.argmax(1) == wanted.argmax(1)).mean()),
        "images": len(wanted),
    }
