"""Scales of all values of a float ONNX file, from images that are run through it.

The file is run by ONNX Runtime with its inner values as additional outputs, so many at a time that a batch of them
stays within a bound; the images are asked for once for each such group. What a group of values shares is observed
together, image by image.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from secateur.errors import DataError, QuantizationError
from secateur.progress import track
from secateur.quantization import observers as _observers  # noqa: F401  (registers them)
from secateur.quantization.numbers import ACTIVATIONS, WEIGHTS, Numbers, Scale, scale_of_range, scale_of_tensor
from secateur.quantization.observer import make_observer
from secateur.quantization.points import Group, Points, ends_of
from secateur.quantization.runs import Runs, images_of, in_groups
from secateur.quantization.seen import Seen
from secateur.quantization.settings import Chooser, Settings
from secateur.quantization.table import ScaleTable

Batches = Callable[[], Iterable[Any]]


def calibrate(
    model: onnx.ModelProto,
    batches: Batches,
    points: Points,
    *,
    observer: str = "mse",
    numbers: Numbers = ACTIVATIONS,
    weights: Numbers = WEIGHTS,
    per_channel: bool = True,
) -> ScaleTable:
    """The table of a prepared model, all layers alike. `observe` and `table_of` are its two halves.

    batches    called for every pass over the images: float32 (images, channels, height, width), prepared for the
               network, or pairs of them and labels
    raises     QuantizationError  a value that is NaN or infinite, named;  DataError  no images
    """
    settings = Settings(observer, None, numbers, weights, per_channel)
    seen = observe(model, batches, points)
    return table_of(model, points, seen, lambda _node, _kind: settings)


def observe(model: onnx.ModelProto, batches: Batches, points: Points) -> list[Seen]:
    """What the images show of each of `points.groups`, in their order.

    raises    QuantizationError  a value that is NaN or infinite, named;  DataError  no images
    """
    seen = [Seen() for _ in points.groups]
    watched = [group.observed for group in points.groups]
    first = next(images_of(batches()), None)
    if first is None or not len(first):
        raise DataError("calibration needs images; there are none.")
    parts, together = in_groups(model, watched, first[:1]) if watched else ([], 1)
    total = None if not hasattr(batches(), "__len__") else len(batches()) * len(parts)  # type: ignore[arg-type]
    with track(total, "calibration") as progress:
        for part in parts:
            runs = Runs(model, [name for index in part for name in watched[index]])
            for images in images_of(batches()):
                for start in range(0, len(images), together):
                    chunk = images[start : start + together]
                    found = runs(chunk)
                    for index in part:
                        rows = [_rows(found[name], len(chunk)) for name in watched[index]]
                        _add(seen[index], rows, watched[index][0], continued=start > 0)
                progress.advance()
    return seen


def table_of(model: onnx.ModelProto, points: Points, seen: Sequence[Seen], settings: Chooser) -> ScaleTable:
    """The table of a prepared model from what was observed.

    What the last layer gives is not clipped by `average`: its largest number is the answer (Distiller measured 75.8
    instead of 72.3 % so).

    raises    QuantizationError
    """
    values: dict[str, Scale] = {}
    last = ends_of(ir.from_proto(model).graph)["last"]
    for group, facts in zip(points.groups, seen, strict=True):
        own = settings(group.node, group.kind)
        if own.observer == "average" and group.node in last:
            own = replace(own, observer="minmax", options=None)
        try:
            low, high = make_observer(own.observer, facts, own.options).range(own.activations)
        except QuantizationError as error:
            raise QuantizationError(f"{group.node or group.values[0]}: {error}") from error
        scale = within(
            group, scale_of_range(max(low, group.low), min(max(high, group.low), group.high), own.activations)
        )
        values.update(dict.fromkeys(group.values, scale))
    return ScaleTable(values, weight_scales(model, points, settings), points.floats)


def weight_scales(model: onnx.ModelProto, points: Points, settings: Chooser) -> dict[str, Scale]:
    """The scale of every weight, by its own extremes. raises QuantizationError."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, Scale] = {}
    for point in points.weights:
        own = settings(point.nodes[0], point.kind)
        weight = numpy_helper.to_array(stored[point.name])
        found[point.name] = scale_of_tensor(weight, own.weights, point.axis if own.per_channel else None)
    return found


def within(group: Group, scale: Scale) -> Scale:
    """The scale with a step not larger than lets its integers stay inside the group's bounds.

    The ends of a range that a Clip of the network cuts off must not lie beyond it by as little as a rounding of
    float32: runtimes would keep the Clip.
    """
    for _ in range(4):
        low, high = (float(end) for end in scale.range)
        if low >= group.low and high <= group.high:
            break
        scale = Scale(np.nextafter(scale.step, np.float32(0)), scale.zero, scale.axis, scale.numbers)
    return scale


def _rows(array: np.ndarray, images: int) -> np.ndarray:
    """One row for each image; a value that is not one for each is a single row."""
    return array.reshape(images if array.size % images == 0 else 1, -1)


def _add(seen: Seen, rows: Sequence[np.ndarray], name: str, *, continued: bool) -> None:
    try:
        seen.add(rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1), continued=continued)
    except QuantizationError as error:
        raise QuantizationError(
            f"{name}: {error} on these images; keep the layer float, or repair the weights that make it."
        ) from error
