"""Proof of what a quantized file does: its outputs in ONNX Runtime beside those of the float file.

    max_abs, mean_abs    of the differences of all outputs of all images
    agreement            images whose largest output is the same, in percent
    simulated_...        the same of the file as it is written, no operator replaced by an integer kernel

What the runtime gives is what counts; the simulation beside it says whether the runtime computes what was meant.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.errors import QuantizationError
from secateur.quantization.runs import Runs, images_of, integer_operators


@dataclass(frozen=True)
class Verification:
    """How far the quantized file is from the float one, on `images` images.

    pairs              values that are rounded: QuantizeLinear operators
    told               weights, biases and values that are told again: DequantizeLinear operators
    operators          kinds of ONNX Runtime's operators after it has optimized the file -> how many
    bytes, float_bytes size of the two files
    """

    images: int
    max_abs: float
    mean_abs: float
    agreement: float
    simulated_max_abs: float
    simulated_agreement: float
    pairs: int
    told: int
    operators: dict[str, int]
    bytes: int
    float_bytes: int

    def __str__(self) -> str:
        integer = sum(count for kind, count in self.operators.items() if kind.startswith(("QLinear", "QGemm")))
        return (
            f"top-1 agreement {self.agreement:.2f} % with the float file on {self.images} images "
            f"({self.simulated_agreement:.2f} % simulated), outputs differ by {self.max_abs:.3g} at most, "
            f"{self.mean_abs:.3g} in the mean; {self.pairs} values are rounded, {integer} operators compute with "
            f"integers in ONNX Runtime; {self.bytes:,} bytes in place of {self.float_bytes:,}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    model: onnx.ModelProto, quantized: onnx.ModelProto, batches: Callable[[], Iterable[Any]], *, threads: int = 0
) -> Verification:
    """Run both files on the same images.

    raises    QuantizationError  a file that ONNX Runtime does not take, outputs of another shape or not finite, or no
              images
    """
    runs = [
        Runs(each, optimized=fast, threads=threads)
        for each, fast in ((model, True), (quantized, True), (quantized, False))
    ]
    images = count = 0
    worst, total = [0.0, 0.0], 0.0
    same = [0, 0]
    for batch in images_of(batches()):
        expected, fast, written = (run.logits(batch) for run in runs)
        for index, found in enumerate((fast, written)):
            if found.shape != expected.shape or not np.isfinite(found).all():
                raise QuantizationError(
                    f"the quantized file gives outputs of shape {found.shape}, finite or not, in place of "
                    f"{expected.shape} finite ones."
                )
            worst[index] = max(worst[index], float(np.abs(found - expected).max()))
            same[index] += int(np.count_nonzero(best_of(found) == best_of(expected)))
        total += float(np.abs(fast - expected).sum(dtype=np.float64))
        count += expected.size
        images += len(batch)
    if not images:
        raise QuantizationError("a quantized file cannot be verified without images.")
    kinds = Counter(node.op_type for node in quantized.graph.node)
    return Verification(
        images,
        worst[0],
        total / count,
        100.0 * same[0] / images,
        worst[1],
        100.0 * same[1] / images,
        kinds["QuantizeLinear"],
        kinds["DequantizeLinear"],
        integer_operators(quantized),
        quantized.ByteSize(),
        model.ByteSize(),
    )


def best_of(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """Place of the largest output of each image, of the first of equal ones."""
    return outputs.reshape(len(outputs), -1).argmax(axis=1)
