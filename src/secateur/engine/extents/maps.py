"""What kernels that read maps with their neighbourhood touch."""

from collections.abc import Iterator

import numpy as np

from secateur.engine.extents.extent import Extent, Fault, Reader, extents_of, floats, positive, span
from secateur.engine.kernels.copy_planes import TAP_FIELDS, CopyPlanes
from secateur.engine.kernels.depthwise import DepthwiseKernel
from secateur.engine.kernels.global_pool import GlobalPool
from secateur.engine.kernels.interleave import Interleave
from secateur.engine.kernels.pick_pixels import PickPixels
from secateur.engine.kernels.pool import ROWS, Pool
from secateur.engine.kernels.resize import Resize
from secateur.engine.layout import next_multiple


@extents_of(CopyPlanes)
def copy_planes(step: Reader) -> Iterator[Extent]:
    """Rows of planes, once for each tap."""
    planes, taps = step.rows("parts"), step.records("taps", len(TAP_FIELDS), np.int64)
    count, h, w, source_row, target_row = step.integers("tap_count", "h", "w", "source_row", "target_row")
    columns = step.kernel.step or step.integer("step")
    if len(taps) < count:
        raise Fault(f"'taps' has {len(taps)} records; {count} are read")
    source, target, top, bottom, left, right = taps[:count].T
    h = min(h, step.integer("parts") * step.integer("rows"))
    if min(columns, source_row, target_row) < 0 or left.min() < 0 or right.max() > w:
        raise Fault("'taps' or distances lead out of the rows")
    top, bottom = np.clip(top, 0, h), np.clip(bottom, 0, h)
    copied = (bottom > top) & (right > left)
    if copied.any():
        low = (source + top * source_row + left * columns)[copied].min()
        high = (source + (bottom - 1) * source_row + (right - 1) * columns)[copied].max() + 1
        yield floats("x", step.table("sources", planes), int(low), int(high))
    yield floats(
        "y", step.table("targets", planes), int(target.min()), int(target.max()) + (h - 1) * target_row + w, write=True
    )


@extents_of(Interleave)
def interleave(step: Reader) -> Iterator[Extent]:
    """Rows of planes, from the phases that they consist of."""
    planes, rows = step.rows("parts"), step.integer("parts") * step.integer("rows")
    h, w, source_row, target_row = step.integers("h", "w", "source_row", "target_row")
    phase_row, phase_column, stride_h, stride_w = step.integers("phase_row", "phase_column", "stride_h", "stride_w")
    h, stride_w = min(h, rows), step.kernel.columns or positive(stride_w, "stride_w")
    width = -(-w // stride_w)
    low, high = span(
        (phase_row, min(positive(stride_h, "stride_h"), h)), (source_row, -(-h // stride_h)),
        (phase_column, min(stride_w, w) if not step.kernel.columns else stride_w),
    )  # fmt: skip
    yield floats("x", step.table("sources", planes), low, high + width)
    low, high = span((target_row, h))
    yield floats("y", step.table("targets", planes), low, high + w, write=True)


@extents_of(DepthwiseKernel)
def depthwise(step: Reader) -> Iterator[Extent]:
    """Planes, with the vectors that the taps reach."""
    kernel: DepthwiseKernel = step.kernel
    channels, height, width = (positive(step.integer(name), name) for name in ("channels", "height", "width"))
    images = -(-step.units // channels)
    x_pitch, x_plane, y_pitch = step.integers("x_pitch", "x_plane", "y_pitch")
    places = [plane * x_plane + dy * x_pitch + dx for plane, dy, dx in kernel.taps]
    low, high = span((kernel.stride * x_pitch, height), (step.integer("x_image"), images))
    reach = max(places) + kernel.stride * next_multiple(width, step.lanes)
    yield floats("x", step.table("origins", channels), low + min(places), high + reach)
    inside = (y_pitch, height), (step.integer("y_channel"), channels)
    low, high = span(*inside, (step.integer("y_image"), images))
    yield floats("y", 0, low, high + width, write=True)
    if kernel.residual:
        low, high = span(*inside, (step.integer("residual_image"), images))
        yield floats("residual", 0, low, high + width)
    yield floats("weights", 0, 0, channels * len(kernel.taps))
    yield floats("bias", 0, 0, channels)
    if kernel.activation and kernel.activation.kind == "prelu":
        yield floats("slope", 0, 0, channels)


@extents_of(GlobalPool)
def global_pool(step: Reader) -> Iterator[Extent]:
    """Whole maps; one number each."""
    length = step.integer("length")
    yield floats("x", step.table("sources", step.units), 0, length)
    yield floats("y", 0, 0, step.units, write=True)
    if step.kernel.kind != "sum":
        yield Extent("masks", 0, 2 * -(-length // step.lanes))


@extents_of(Pool)
def pool(step: Reader) -> Iterator[Extent]:
    """Windows of maps; rows in scratch memory."""
    planes, lanes = step.rows("parts"), step.lanes
    h, w, out_h, out_w, row_size, left = step.integers("h", "w", "out_h", "out_w", "row_size", "left")
    low, high = span((step.integer("source_row"), h))
    yield floats("x", step.table("sources", planes), low, high + w)
    low, high = span((step.integer("target_row"), min(out_h, step.integer("parts") * step.integer("rows"))))
    yield floats("y", step.table("targets", planes), low, high + out_w, write=True)
    # What is read along a row: whole vectors, of which every second element may count.
    columns = step.kernel.width or step.integer("kernel_w")
    reach = (columns - 1) * step.integer("dilation_w")
    if step.kernel.step:
        reach += (next_multiple(out_w, lanes) - lanes) * step.kernel.step + lanes * step.kernel.step
    else:
        reach += (out_w - 1) * step.integer("stride_w") + 1
    row = max(row_size, left + next_multiple(w, lanes), reach)
    yield floats("scratch", 0, 0, (ROWS - 1) * row_size + row, write=True)
    if step.kernel.kind == "sum":
        yield floats("row_shares", 0, 0, out_h)
        yield floats("column_shares", 0, 0, next_multiple(out_w, lanes) if step.kernel.step else out_w)


@extents_of(Resize)
def resize(step: Reader) -> Iterator[Extent]:
    """Rows and columns that the tables name."""
    kernel: Resize = step.kernel
    planes, lanes = step.rows("parts"), step.lanes
    w, out_h, out_w, stride = step.integers("w", "out_h", "out_w", "stride")
    out_h = min(out_h, step.integer("parts") * step.integer("rows"))
    places = step.table("row_places", out_h * kernel.taps)
    sources = step.table("sources", planes)
    reach = w
    if not kernel.doubled:
        end = (kernel.taps - 1) * stride + next_multiple(out_w, lanes)
        columns = step.table("columns", end, np.int32)
        if columns.min() < 0:
            raise Fault("'columns' has negative numbers")
        reach = int(columns.max()) + 1
        if kernel.taps > 1:
            yield floats("column_weights", 0, 0, end)
            yield floats("row_weights", 0, 0, out_h * kernel.taps)
            yield floats("scratch", 0, 0, max(reach, next_multiple(w, lanes)), write=True)
            reach = w
    yield floats("x", sources, int(places.min()), int(places.max()) + reach)
    low, high = span((step.integer("target_row"), out_h))
    width = max(out_w, 2 * (w // lanes * lanes)) if kernel.doubled else out_w
    yield floats("y", step.table("targets", planes), low, high + width, write=True)


@extents_of(PickPixels)
def pick_pixels(step: Reader) -> Iterator[Extent]:
    """Pixels that a table names; rows of planes."""
    h, w = step.integers("h", "w")
    pixels = step.table("pixels", h * w, np.int32)
    if int(pixels.min()) < 0:
        raise Fault("'pixels' has negative numbers")
    yield floats("x", step.table("sources", step.units), 0, int(pixels.max()) + 1)
    low, high = span((step.integer("target_row"), h))
    yield floats("y", step.table("targets", step.units), low, high + w, write=True)
