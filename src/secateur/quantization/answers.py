"""What networks in ONNX form answer on calibration images, and how far two of them agree."""

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.errors import QuantizationError
from secateur.quantization.runs import Runs, images_of
from secateur.quantization.subjects import Batches

Logits = NDArray[np.float32]


def logits_of(model: onnx.ModelProto, batches: Batches, *, optimized: bool = True) -> Logits:
    """(images, classes): the first output of every image, flattened, from ONNX Runtime.

    optimized    with its graph optimizations: int8 kernels where the file asks for them; without, the operators as they
                 stand
    raises       QuantizationError  a model that cannot be run, or no images
    """
    run = Runs(model, optimized=optimized, threads=1)
    parts = [run.logits(images).reshape(len(images), -1) for images in images_of(batches())]
    if not parts:
        raise QuantizationError("there are no calibration images.")
    return np.concatenate(parts)


def top1_agreement(wanted: Logits, got: Logits) -> float:
    """Share of the images whose largest logit is the same; an answer that is no number agrees with none."""
    same = (wanted.argmax(axis=1) == got.argmax(axis=1)) & np.isfinite(got).all(axis=1)
    return float(same.mean())


def divergence(wanted: Logits, got: Logits) -> float:
    """Mean over the images of KL(softmax wanted || softmax got), in nats."""
    reference, other = (_log_softmax(logits.astype(np.float64)) for logits in (wanted, got))
    return float(max((np.exp(reference) * (reference - other)).sum(axis=1).mean(), 0.0))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
