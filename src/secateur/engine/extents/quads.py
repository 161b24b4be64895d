"""What kernels touch that work on 8-bit integers."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from secateur.engine.extents.extent import Extent, Fault, Reader, extents_of, floats, positive, span
from secateur.engine.extents.rows import elementwise
from secateur.engine.kernels.byte_planes import STEP, BytePlanes
from secateur.engine.kernels.quad_bytes import FlipBytes, PackBytes, UnpackBytes
from secateur.engine.kernels.quad_channels import BIT_FIELDS, QuadChannels
from secateur.engine.kernels.quad_depthwise import QuadDepthwise
from secateur.engine.kernels.quad_elementwise import QuadElementwise
from secateur.engine.kernels.quad_mean import QuadMean
from secateur.engine.kernels.quad_rows import MISSING
from secateur.engine.kernels.quantize import DequantizeDense, DequantizePlanes, QuantizeDense, QuantizePlanes
from secateur.engine.kernels.requantize import NUMBERS
from secateur.engine.layout import next_multiple


@extents_of(QuantizePlanes)
def quantize_planes(step: Reader) -> Iterator[Extent]:
    """Rows of planes of floats, and of quads."""
    planes = step.rows("parts")
    low, high = _rows(step, "source_row")
    yield floats("x", step.table("sources", 4 * planes), low, high)
    low, high = _rows(step, "target_row")
    yield floats("y", step.table("targets", planes), low, high, write=True)


@extents_of(DequantizePlanes)
def dequantize_planes(step: Reader) -> Iterator[Extent]:
    """Rows of planes of quads, and of floats."""
    planes = step.rows("parts")
    low, high = _rows(step, "source_row")
    yield floats("x", step.table("sources", planes), low, high)
    low, high = _rows(step, "target_row")
    yield floats("y", _present(step, 4 * planes), low, high, write=True)


@extents_of(QuantizeDense)
def quantize_dense(step: Reader) -> Iterator[Extent]:
    """Blocks of elements."""
    count = min(step.integer("size"), step.units * step.integer("block"))
    yield floats("x", 0, 0, count)
    yield Extent("y", 0, count, write=True)


@extents_of(DequantizeDense)
def dequantize_dense(step: Reader) -> Iterator[Extent]:
    """Blocks of elements, read in whole vectors."""
    count = min(step.integer("size"), step.units * step.integer("block"))
    yield Extent("x", 0, next_multiple(count, step.lanes))
    yield floats("y", 0, 0, count, write=True)


def _rows(step: Reader, distance: str) -> tuple[int, int]:
    """Elements from a plane's first to the one behind its last."""
    h = min(step.integer("h"), step.integer("parts") * step.integer("rows"))
    low, high = span((step.integer(distance), h))
    return low, high + step.integer("w")


@extents_of(PackBytes)
def pack_bytes(step: Reader) -> Iterator[Extent]:
    """Rows of dense bytes, and of quads."""
    planes = step.rows("parts")
    low, high = _bytes(step, "source_row")
    sources = step.table("sources", 4 * planes)
    yield Extent("x", int(sources.min()) + low, int(sources.max()) + high)
    low, high = _rows(step, "target_row")
    yield floats("y", step.table("targets", planes), low, high, write=True)


@extents_of(UnpackBytes)
def unpack_bytes(step: Reader) -> Iterator[Extent]:
    """Rows of quads, and of dense bytes."""
    planes = step.rows("parts")
    low, high = _rows(step, "source_row")
    yield floats("x", step.table("sources", planes), low, high)
    low, high = _bytes(step, "target_row")
    targets = _present(step, 4 * planes)
    yield Extent("y", int(targets.min()) + low, int(targets.max()) + high, write=True)


@extents_of(FlipBytes)
def flip_bytes(step: Reader) -> Iterator[Extent]:
    """Blocks of bytes."""
    count = min(step.integer("size"), step.units * step.integer("block"))
    yield Extent("x", 0, count)
    yield Extent("y", 0, count, write=True)


@extents_of(BytePlanes)
def byte_planes(step: Reader) -> Iterator[Extent]:
    """All quads of a tensor, and what lies in front of them; four arrays of bytes."""
    before, size, distance = step.integers("before", "size", "distance")
    if step.integer("part") % STEP or size % STEP:
        raise Fault(f"quads are taken apart {STEP} at a time")
    yield floats("x", 0, -before, size - before)
    yield Extent("y", 0, 3 * distance + size, write=True)


@extents_of(QuadChannels)
def quad_channels(step: Reader) -> Iterator[Extent]:
    """Rows of planes of quads."""
    planes = step.rows("parts")
    low, high = _rows(step, "source_row")
    yield floats("x", step.table("sources", 4 * planes), low, high)
    low, high = _rows(step, "target_row")
    yield floats("y", step.table("targets", planes), low, high, write=True)
    step.table("bits", len(BIT_FIELDS) * planes, np.int32)


@extents_of(QuadElementwise)
def quad_elementwise(step: Reader) -> Iterator[Extent]:
    """Rows of quads, and a table."""
    if step.kernel.operation == "table":
        step.check("table", np.uint8, 256)
    return elementwise(step)


@extents_of(QuadDepthwise)
def quad_depthwise(step: Reader) -> Iterator[Extent]:
    """Planes of quads, with the vectors that the taps reach."""
    kernel: QuadDepthwise = step.kernel
    count, h, w = (positive(step.integer(name), name) for name in ("planes", "h", "w"))
    if h < kernel.together or step.integer("rows") < kernel.together:
        raise Fault(f"planes of {h} rows are computed {kernel.together} rows at a time")
    images = -(-step.rows("parts") // count)
    x_pitch, x_plane = step.integers("x_pitch", "x_plane")
    places = [plane * x_plane + dy * x_pitch for plane, dy, _ in kernel.taps]
    first = min(dx for _, _, dx in kernel.taps)
    low, high = span((kernel.stride * x_pitch, h), (step.integer("x_image"), images))
    reach = kernel.stride * (next_multiple(w, step.lanes) - step.lanes) + kernel.vectors(step.lanes) * step.lanes
    yield floats("x", step.table("origins", count), low + min(places) + first, high + max(places) + first + reach)
    for field in ("y", "residual")[: 1 + kernel.residual]:
        names = (f"{field}_{name}" for name in ("pitch", "plane", "image"))
        low, high = span(*zip(step.integers(*names), (h, count, images), strict=True))
        yield floats(field, 0, low, high + w, write=field == "y")
    step.check("weights", np.int8, count * len(kernel.entries) * 16)
    step.check("bias", np.int32, 4 * count)
    scales = h * -(-w // step.lanes) * 4 * step.lanes if kernel.shares else 4 * count
    step.check("scales", np.float32, scales)
    step.check("numbers", np.float32, len(NUMBERS))
    if kernel.activation and kernel.activation.kind == "prelu":
        step.check("slope", np.float32, 4 * count)


@extents_of(QuadMean)
def quad_mean(step: Reader) -> Iterator[Extent]:
    """Whole maps; one quad each."""
    yield floats("x", step.table("sources", step.units), 0, step.integer("length"))
    yield floats("y", 0, 0, step.units, write=True)


def _present(step: Reader, count: int) -> NDArray[np.int64]:
    """The targets of channels that exist."""
    targets = step.table("targets", count)
    if int(targets.min()) < MISSING or not (targets >= 0).any():
        raise Fault("'targets' has negative numbers")
    return targets[targets >= 0]


def _bytes(step: Reader, distance: str) -> tuple[int, int]:
    """Bytes from a plane's first to the one behind its last, of those that are dense."""
    h = min(step.integer("h"), step.integer("parts") * step.integer("rows"))
    low, high = span((step.integer(distance), h), (step.integer("step"), step.integer("w")))
    return low, high + 1
