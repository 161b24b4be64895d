"""Proof that an exported file is the same function as the network it came from.

    error = max |onnx - torch| ,   tolerance = TOLERANCE * max |torch|      over all logits of all images

Float32 sums in another order differ by some 1e-6 of the logits' scale, batch norm folded into weights by a
few 1e-5; anything that is really wrong (a lost layer, another padding, a mask not folded) is off by far more
than 1e-3.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from secateur.errors import ExportError
from secateur.export.onnx_file import INPUT_NAME, folded_copy

TOLERANCE = 1e-3


@dataclass(frozen=True)
class ExportCheck:
    """How far the file's outputs are from torch's on real images."""

    max_abs_error: float
    max_rel_error: float  # of the largest absolute logit
    top1_agreement: float  # percent
    images: int
    tolerance: float  # what max_rel_error may be
    passed: bool

    def __str__(self) -> str:
        verdict = "the same function" if self.passed else "NOT the same function"
        return (
            f"{verdict}: max abs error {self.max_abs_error:.2e} "
            f"({self.max_rel_error:.1e} of the largest logit, tolerance {self.tolerance:.0e}), "
            f"top-1 agreement {self.top1_agreement:.2f} % on {self.images} images"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_onnx(
    model: nn.Module,
    path: Path | str,
    batches: Iterable[Any],
    *,
    tolerance: float = TOLERANCE,
) -> ExportCheck:
    """Compare the ONNX file at `path`, run by ONNX Runtime, with `model` run by torch.

    batches   of images (batch, channels, height, width) float32, or pairs (images, labels); arrays or tensors
    raises    ExportError  when the file does not load, there are no images, or the outputs differ by more
              than `tolerance` times the largest absolute logit
    """
    network = folded_copy(model)
    session = _session(path)
    fixed = session.get_inputs()[0].shape[0]
    error = scale = 0.0
    agree = images = 0
    for batch in batches:
        pixels = _pixels(batch)
        with torch.inference_mode():
            expected = network(torch.from_numpy(pixels)).numpy()
        actual = _run(session, path, pixels, fixed if isinstance(fixed, int) else None)
        if actual.shape != expected.shape:
            raise ExportError(f"{path}: outputs have shape {actual.shape}, torch's have {expected.shape}.")
        difference = float(np.max(np.abs(actual.astype(np.float64) - expected)))
        # A logit that is not a number must fail the check, and max() would lose it.
        error = float("inf") if not np.isfinite(difference) else max(error, difference)
        scale = max(scale, float(np.max(np.abs(expected))))
        agree += int(np.sum(actual.argmax(axis=1) == expected.argmax(axis=1)))
        images += len(pixels)
    if images == 0:
        raise ExportError(f"{path}: the export cannot be checked without images.")
    relative = error / scale if scale else (0.0 if error == 0 else float("inf"))
    check = ExportCheck(error, relative, 100.0 * agree / images, images, tolerance, relative <= tolerance)
    if not check.passed:
        raise ExportError(f"{path}: {check}.")
    return check


def _session(path: Path | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise ExportError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}.") from error


def _pixels(batch: Any) -> np.ndarray:
    images = batch[0] if isinstance(batch, (tuple, list)) else batch
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu().numpy()
    return np.ascontiguousarray(images, dtype=np.float32)


def _run(session: onnxruntime.InferenceSession, path: Path | str, images: np.ndarray, fixed: int | None) -> np.ndarray:
    """Logits of `images`; a file with a fixed batch is fed in chunks, the last one filled with copies."""
    chunk = fixed or len(images)
    outputs = []
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        missing = chunk - len(part)
        feed = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        try:
            outputs.append(np.asarray(session.run(None, {INPUT_NAME: feed})[0])[: len(part)])
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise ExportError(f"{path}: ONNX Runtime cannot run it: {str(error).splitlines()[0]}.") from error
    return np.concatenate(outputs)
