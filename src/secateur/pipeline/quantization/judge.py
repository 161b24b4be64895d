"""What runtimes make of the float and the quantized file on test images, with labels where there are any."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from secateur.measure import Comparison, Subject, compare_runtimes
from secateur.measure.comparison import BATCH
from secateur.measure.runtime import Images
from secateur.progress import say, track
from secateur.zoo import ImageData, Preprocessing, numpy_batches

FLOAT = "float"


def judged(
    float_file: Path,
    quantized_file: Path,
    numbers: str,
    images: ImageData,
    preprocessing: Preprocessing,
    limit: int,
    runtimes: tuple[str, ...] = (),
) -> Comparison | None:
    """Both files in every runtime on up to `limit` test images (training images where there are no others).

    returns    None for no images
    raises     MeasureError, DataError
    """
    if limit == 0:
        return None
    split = "test" if len(images.test) else "train"
    count = min(limit, len(images.split(split)))
    batch = _fixed_batch(float_file)
    with track(-(-count // BATCH), "runtimes") as progress:
        found = compare_runtimes(
            Subject(FLOAT, float_file),
            Subject(numbers, quantized_file),
            _pairs(images, split, preprocessing, limit),
            runtime_names=runtimes,
            batch=batch or BATCH,
            on_batch=progress.advance,
        )
    say(str(found))
    return found


def _pairs(
    images: ImageData, split: str, preprocessing: Preprocessing, limit: int
) -> Iterator[tuple[Images, np.ndarray | None]]:
    for pixels, labels in numpy_batches(images, split, preprocessing, BATCH, limit=limit):
        yield pixels, labels if images.labelled else None


def _fixed_batch(file: Path) -> int:
    """The batch that a file takes; 0 for any."""
    model = onnx.load(file, load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    shape = next(value for value in model.graph.input if value.name not in stored).type.tensor_type.shape
    return shape.dim[0].dim_value if shape.dim and shape.dim[0].HasField("dim_value") else 0
