"""What matrix products touch."""

from collections.abc import Iterator

import numpy as np

from secateur.engine.extents.extent import Extent, Fault, Reader, extents_of, floats, positive
from secateur.engine.kernels.linear import LinearKernel
from secateur.engine.kernels.matmul import MatMul
from secateur.engine.kernels.requantize import NUMBERS


@extents_of(LinearKernel)
def linear(step: Reader) -> Iterator[Extent]:
    """Slabs of outputs for tiles of rows."""
    kernel: LinearKernel = step.kernel
    inputs, outputs, tiles, large = step.integers("inputs", "outputs", "tiles", "large")
    part, parts = positive(step.integer("part"), "part"), step.integer("parts")
    slabs, tiles = step.rows("parts"), min(tiles, part * parts)
    rows = min(tiles, large) * kernel.rows[0]
    for size in kernel.rows[1:]:
        rows = max(rows, large * (kernel.rows[0] - size) + tiles * size) if tiles > large else rows
    width = kernel.slab * step.lanes
    yield floats("x", 0, 0, rows * inputs)
    quads = kernel.requantize is not None
    kind = np.uint32 if quads or kernel.pairs else np.float32
    item = 1 if kernel.requantize and kernel.requantize.quads else 4
    yield Extent("y", 0, item * rows * outputs, write=True)
    if kernel.residual:
        yield Extent("residual", 0, (1 if quads else 4) * rows * outputs)
    step.check("bias", np.int32 if kernel.requantize else np.float32, slabs * width)
    if quads:
        step.check("scales", np.float32, slabs * width)
        step.check("numbers", np.float32, len(NUMBERS))
    if kernel.activation and kernel.activation.kind == "prelu":
        yield floats("slope", 0, 0, slabs * width)
    if (slabs - 1) * width >= outputs:
        raise Fault(f"{slabs} slabs of {width} are more than the {outputs} outputs")
    if not kernel.block:
        step.check("weights", kind, slabs * inputs * width)
        return
    starts = step.table("starts", slabs + 1)
    entries = int(starts.max())
    if starts.min() < 0:
        raise Fault("'starts' has negative numbers")
    step.check("weights", kind, entries * step.lanes)
    count = entries * (step.lanes // kernel.block)
    indices = step.table("indices", count, np.uint16) if count else np.zeros(1, np.uint16)
    if int(indices.max()) >= inputs:
        raise Fault(f"'indices' asks for input {int(indices.max())} of {inputs}")


@extents_of(MatMul)
def matmul(step: Reader) -> Iterator[Extent]:
    """Blocks of rows of products."""
    height, depth, width = step.integers("height", "depth", "width")
    products = step.rows("blocks")
    steps = dict(zip("aby", step.integers("a_step", "b_step", "y_step"), strict=True))
    if min(steps.values()) < 0 or min(height, width) < 1 or depth < 0:
        raise Fault(f"a product of {height} x {depth} and {depth} x {width} is impossible")
    for name, count, length in (("a", height, depth), ("b", depth, width), ("y", height, width)):
        starts = step.table(f"{name}_starts", products)
        if count and length:
            yield floats(name, starts, 0, (count - 1) * steps[name] + length, write=name == "y")
