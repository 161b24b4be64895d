"""What networks in ONNX form answer on calibration images, and how far two of them agree."""

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from secateur.errors import QuantizationError
from secateur.quantization.subjects import Batches

Logits = NDArray[np.float32]


def logits_of(model: onnx.ModelProto, batches: Batches, *, optimized: bool = True) -> Logits:
    """(images, classes): the first output of every image, flattened, from ONNX Runtime.

    optimized    with its graph optimizations: int8 kernels where the file asks for them; without, the operators as they
                 stand
    raises       QuantizationError  a model that cannot be run, or no images
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    parts: list[Logits] = []
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed, batch = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]
        for images in batches():
            # A file with a fixed batch gets that many at a time, the last ones filled up with copies.
            size = batch if isinstance(batch, int) and batch > 0 else len(images)
            for start in range(0, len(images), size):
                part = np.ascontiguousarray(images[start : start + size], np.float32)
                filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
                found = np.asarray(session.run(None, {feed: filled})[0], np.float32)
                parts.append(found.reshape(len(filled), -1)[: len(part)])
    except Exception as error:  # its exceptions share no public base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise QuantizationError(f"ONNX Runtime cannot run the model on calibration images: {reason}.") from error
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
