"""Depthwise convolutions whose taps fit into one kernel."""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.depthwise import DepthwiseKernel
from secateur.engine.layout import Picked, Planes, planes
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv_shape import ConvShape, reads_in_place
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.picked import whole_of
from secateur.engine.lowering.relayout import phase_split, plane_offsets, to_flat, to_planes
from secateur.engine.lowering.source import like, padded
from secateur.engine.target import Target

# More weights than this neither stay in registers nor make short code; the general kernel takes over.
MOST_TAPS = 49


def is_depthwise(shape: ConvShape) -> bool:
    """One input channel per group, and a kernel of few taps."""
    return shape.groups == shape.c and shape.groups > 1 and shape.kernel[0] * shape.kernel[1] <= MOST_TAPS


def strides_in_place(shape: ConvShape) -> bool:
    """Whether the kernel reads the input itself, with its stride, rather than phases of it."""
    return shape.strides in ((1, 1), (2, 2))


def rows_together(height: int, taps: int, target: Target, stride: int = 1) -> int:
    """Output rows per step: as many as registers hold beside the weights, preferably a divisor of the height."""
    # With a stride, two vectors become two others, on AVX-512 by two index vectors.
    room = max(target.registers - min(taps, target.registers // 2 + 1) - (3 if stride == 1 else 7), 2)
    # Six rows spill on AArch64, where the compiler loads all inputs first; with a stride these are twice as many.
    most = min(room, 8 if taps <= 9 and target.isa != "neon" else 4 // stride)
    fitting = [r for r in range(most, 1, -1) if height % r == 0 and r > most // 2]
    return min(fitting[0] if fitting else most, height)


def emit_depthwise(
    context: Context,
    layer: str,
    shape: ConvShape,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    x: Tensor,
    y: Tensor,
    epilogue: Epilogue,
) -> DepthwiseKernel:
    """Steps of one depthwise convolution (multiplier o / c); returns the kernel for the report."""
    out = y if isinstance(y.layout, Planes) else context.temporary(planes((shape.n, shape.o, shape.out_h, shape.out_w)))
    own = out.planes
    residual = to_planes(context, epilogue.residual, like(own, own.c)) if epilogue.residual else None
    (kh, kw), (sh, sw), (dh, dw) = shape.kernel, shape.strides, shape.dilations
    ys, xs = [ky * dh for ky in range(kh)], [kx * dw for kx in range(kw)]
    in_place = strides_in_place(shape)
    if in_place:
        picked = isinstance(x.layout, Picked) and reads_in_place(shape.densely, x.layout.whole)
        source = whole_of(x) if picked else padded(context, shape.densely, x)
        taps = tuple((0, ty - shape.pads[0], tx - shape.pads[1]) for ty in ys for tx in xs)
        origins = plane_offsets(x if picked else source)[0][: shape.c]
    else:
        phases = sh * sw
        split = planes(
            (shape.n, shape.c * phases, shape.out_h + shape.reach[0] // sh, shape.out_w + shape.reach[1] // sw)
        )
        source = phase_split(context, x, shape.strides, shape.pads, split)
        taps = tuple(((ty % sh) * sw + tx % sw, ty // sh, tx // sw) for ty in ys for tx in xs)
        origins = np.arange(shape.c) * phases * split.plane_stride
    stride = sh if in_place else 1
    rows = rows_together(shape.out_h, len(taps), context.target, stride)
    kernel = DepthwiseKernel(taps, rows, epilogue.activation, residual is not None, stride)
    zeros = np.zeros(shape.o, np.float32)
    arguments = {
        "x": source.address,
        "y": out.address,
        "residual": residual.address if residual else 0,
        "bias": zeros if bias is None else np.ascontiguousarray(bias, np.float32),
        "weights": np.ascontiguousarray(weight.reshape(shape.o, -1), np.float32),
        "slope": zeros if epilogue.slope is None else np.ascontiguousarray(epilogue.slope, np.float32),
        "origins": np.repeat(origins, shape.o // shape.c),
        "channels": shape.o,
        "height": shape.out_h,
        "width": shape.out_w,
        "x_pitch": source.planes.pitch,
        "x_plane": source.planes.plane_stride,
        "x_image": source.planes.image_stride,
        "y_pitch": own.pitch,
        "y_channel": own.plane_stride,
        "y_image": own.image_stride,
        "residual_image": residual.planes.image_stride if residual else 0,
    }
    reads = (source, *((residual,) if residual else ()))
    context.emit(layer, kernel, arguments, shape.n * shape.o, reads=reads, writes=(out,))
    if out is not y:
        to_flat(context, out, y)
    return kernel
