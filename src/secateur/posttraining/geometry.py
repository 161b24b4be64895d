"""How a layer walks over its input, and the columns that its weights are multiplied with.

    y[o, t] = sum_j W[o, j] x[j, t]      j = (channel of the group, ky, kx), the order of the flattened weight
                                         t = (image, y, x), the positions of the output

1. A convolution is unfolded with its own padding, stride and dilation; what is not zero padding is padded so first.
2. Each group has columns of its own; a depthwise convolution has C groups of d = kh * kw.
3. The input of a linear layer may have any number of dimensions, the last are its features.
4. Where only some positions are taken they are the same for all channels and groups.
"""

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]

from secateur.errors import PosttrainingError
from secateur.graph.layer_count import Kind

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


@dataclass(frozen=True)
class Geometry:
    """How one convolution or linear layer reads its input; the tuples of a linear layer are empty.

    padding    (begin, end) of every spatial axis
    """

    kind: Kind
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    padding_mode: PaddingMode = "zeros"
    groups: int = 1

    def __post_init__(self) -> None:
        sides = {len(self.kernel), len(self.stride), len(self.dilation), len(self.padding)}
        if len(sides) > 1:
            raise PosttrainingError(f"{self}: kernel, stride, dilation and padding need one entry for every axis.")
        if self.padding_mode not in get_args(PaddingMode):
            raise PosttrainingError(f"{self}: padding is one of {', '.join(get_args(PaddingMode))}.")


def geometry_of(module: nn.Module) -> Geometry:
    """The geometry of a torch layer. raises PosttrainingError for what is neither convolution nor linear."""
    if isinstance(module, nn.Linear):
        return Geometry("linear")
    if not isinstance(module, _ConvNd):
        raise PosttrainingError(f"a {type(module).__name__} is neither a convolution nor a linear layer.")
    kernel, dilation = module.kernel_size, module.dilation
    if isinstance(module, _ConvTransposeNd):
        kind: Kind = "conv_transpose"
    else:
        kind = "depthwise" if 1 < module.groups == module.in_channels else "conv"
    if module.padding == "valid":
        padding = tuple((0, 0) for _ in kernel)
    elif module.padding == "same":
        totals = [rate * (side - 1) for side, rate in zip(kernel, dilation, strict=True)]
        padding = tuple((total // 2, total - total // 2) for total in totals)
    else:
        padding = tuple((int(side), int(side)) for side in module.padding)
    mode = cast(PaddingMode, module.padding_mode)
    return Geometry(kind, tuple(kernel), tuple(module.stride), tuple(dilation), padding, mode, module.groups)


def columns_of(
    inputs: Tensor, geometry: Geometry, limit: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """What the weights of a layer are multiplied with.

    inputs     (N, C, ...) of a convolution, (..., features) of a linear layer
    limit      at most so many columns, drawn without repetition and in the order of their positions
    generator  of the draw, on the CPU; without one it is always the draw of seed 0
    returns    (groups, d, n)
    raises     PosttrainingError  a transposed convolution, an input of another rank
    """
    view = _positions_first(inputs, geometry, limit)
    positions = draw_positions(math.prod(view.shape[: _axes(geometry)]), limit, generator)
    return _columns(view, geometry, positions)


def columns_in_two(
    inputs: Tensor, others: Tensor, geometry: Geometry, limit: int | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """`columns_of` two inputs of the same layer at the same positions."""
    views = [_positions_first(each, geometry, limit) for each in (inputs, others)]
    if views[0].shape != views[1].shape:
        raise PosttrainingError(f"inputs of {tuple(inputs.shape)} and {tuple(others.shape)} are not of the same layer.")
    positions = draw_positions(math.prod(views[0].shape[: _axes(geometry)]), limit, generator)
    return _columns(views[0], geometry, positions), _columns(views[1], geometry, positions)


def positions_of(inputs: Tensor, geometry: Geometry) -> int:
    """How many columns `columns_of` gives without a limit."""
    if geometry.kind == "linear":
        return math.prod(inputs.shape[:-1])
    axes = len(geometry.kernel)
    walks = zip(inputs.shape[-axes:], geometry.padding, _extents(geometry), geometry.stride, strict=True)
    each = math.prod((size + sum(pads) - extent) // step + 1 for size, pads, extent, step in walks)
    return each * (len(inputs) if inputs.dim() == axes + 2 else 1)


def draw_positions(total: int, limit: int | None, generator: torch.Generator | None = None) -> Tensor | None:
    """`limit` of `total` positions in rising order; None where all are taken."""
    if limit is None or limit >= total:
        return None
    if limit < 1:
        raise PosttrainingError(f"at least one column is needed, not {limit}.")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    return torch.randperm(total, generator=generator)[:limit].sort().values


def _extents(geometry: Geometry) -> list[int]:
    """Positions of the input from the first to the last that a kernel covers, by axis."""
    return [rate * (side - 1) + 1 for side, rate in zip(geometry.kernel, geometry.dilation, strict=True)]


def _axes(geometry: Geometry) -> int:
    """Leading axes of `_positions_first` that count positions."""
    return 1 + len(geometry.kernel)


def _positions_first(inputs: Tensor, geometry: Geometry, limit: int | None) -> Tensor:
    """A view (N, out..., C, kernel...), or (N, features) of a linear layer."""
    if geometry.kind == "conv_transpose":
        raise PosttrainingError(
            "a transposed convolution has no second-order reconstruction; leave it dense or reconstruct it by gradient."
        )
    if geometry.kind == "linear":
        if inputs.dim() < 1:
            raise PosttrainingError("a linear layer gets at least a vector, not a number.")
        return inputs.reshape(-1, inputs.shape[-1])
    rank = 2 + len(geometry.kernel)
    if inputs.dim() == rank - 1:
        inputs = inputs.unsqueeze(0)
    if inputs.dim() != rank:
        raise PosttrainingError(f"an input of shape {tuple(inputs.shape)} does not fit {len(geometry.kernel)} axes.")
    if inputs.shape[1] % geometry.groups:
        raise PosttrainingError(f"{inputs.shape[1]} input channels do not divide into {geometry.groups} groups.")
    total, extents = positions_of(inputs, geometry), _extents(geometry)
    if any(side for sides in geometry.padding for side in sides):
        pads = [side for sides in reversed(geometry.padding) for side in sides]
        inputs = F.pad(inputs, pads, mode="constant" if geometry.padding_mode == "zeros" else geometry.padding_mode)
    if any(whole < extent for whole, extent in zip(inputs.shape[2:], extents, strict=True)):
        raise PosttrainingError(f"the padded input {tuple(inputs.shape[2:])} is smaller than the kernel.")
    if math.prod(geometry.kernel) > 1 and (limit is None or limit >= total):
        # 64 channels of 28x28, 3x3: all columns of a channels-last input take 230 ms, with this 60. Drawn ones are
        # quicker from channels last, and 1x1 kernels need no copy there.
        inputs = inputs.contiguous()
    for axis, (extent, step, rate) in enumerate(zip(extents, geometry.stride, geometry.dilation, strict=True), 2):
        inputs = inputs.unfold(axis, extent, step)[..., ::rate]
    return inputs.movedim(1, rank - 1)


def _columns(view: Tensor, geometry: Geometry, positions: Tensor | None) -> Tensor:
    axes = _axes(geometry)
    if positions is not None:
        at = torch.unravel_index(positions.to(view.device), view.shape[:axes])
        view = view[at]
        axes = 1
    count, groups = math.prod(view.shape[:axes]), geometry.groups
    lead = tuple(range(axes, view.dim()))
    columns = view.permute(*lead, *range(axes)).reshape(groups, math.prod(view.shape[axes:]) // groups, count)
    # Groups innermost, as channels last has them, make products of each group 1.5 to 2 times as slow.
    return columns.contiguous() if columns.stride(0) < columns.stride(1) else columns
