"""What every operator of the normal form computes, in torch: attributes and operands in, result or results out.

Graphs are read for one image; a leading side of 1 that a Reshape writes is the batch, whatever its size.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import QuantizationError
from secateur.graph.ir import Activation

Attributes = Mapping[str, Any]


def activate(activation: Activation | None, x: Tensor, slope: Tensor | None = None) -> Tensor:
    """An activation of the normal form. raises QuantizationError for an unknown one."""
    if activation is None:
        return x
    if activation.kind == "prelu" and slope is not None:
        return F.prelu(x, slope)
    if activation.kind not in _ACTIVATIONS:
        raise QuantizationError(f"the activation '{activation.kind}' has no torch function here.")
    return _ACTIVATIONS[activation.kind](x, activation.alpha, activation.beta)


_ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "abs": lambda x, a, b: x.abs(),
    "clip": lambda x, a, b: x.clamp(a, b),
    "elu": lambda x, a, b: F.elu(x, a),
    "erf": lambda x, a, b: torch.erf(x),
    "exp": lambda x, a, b: x.exp(),
    "gelu": lambda x, a, b: F.gelu(x),
    "gelu_tanh": lambda x, a, b: F.gelu(x, approximate="tanh"),
    "hard_sigmoid": lambda x, a, b: (a * x + b).clamp(0, 1),
    "hard_swish": lambda x, a, b: F.hardswish(x),
    "leaky_relu": lambda x, a, b: F.leaky_relu(x, a),
    "mish": lambda x, a, b: F.mish(x),
    "neg": lambda x, a, b: -x,
    "reciprocal": lambda x, a, b: x.reciprocal(),
    "relu": lambda x, a, b: x.relu(),
    "sigmoid": lambda x, a, b: x.sigmoid(),
    "silu": lambda x, a, b: F.silu(x),
    "softplus": lambda x, a, b: F.softplus(x),
    "sqrt": lambda x, a, b: x.sqrt(),
    "tanh": lambda x, a, b: x.tanh(),
}


def _padded(x: Tensor, pads: tuple[int, ...], value: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """(x, symmetric padding that is left to do); pads are (top, left, bottom, right)."""
    top, left, bottom, right = (int(pad) for pad in pads)
    if (top, left) == (bottom, right) and value == 0.0:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
    x, padding = _padded(x, a["pads"])
    y = F.conv2d(x, w, b, tuple(a["strides"]), padding, tuple(a["dilations"]), int(a["group"]))
    return activate(a["activation"], y if residual is None else y + residual)


def _conv_transpose(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    top, left, bottom, right = (int(pad) for pad in a["pads"])
    extra = tuple(int(pad) for pad in a["output_padding"])
    y = F.conv_transpose2d(
        x, w, b, tuple(a["strides"]), 0, extra, int(a["group"]), tuple(a["dilations"])
    )  # cut afterwards: pads need not be symmetric
    y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]
    return activate(a["activation"], y)


def _linear(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
    y = F.linear(x, w, b)
    return activate(a["activation"], y if residual is None else y + residual)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda a, x, y: activate(a.get("activation"), function(x, y))


def _scale_shift(a: Attributes, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    sides = (-1, *(1,) * (x.dim() - 2))
    return x * scale.reshape(sides) + shift.reshape(sides)


def _pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, strides, dilations = (tuple(a[key]) for key in ("kernel", "strides", "dilations"))
    if a["kind"] == "max":
        padded, _ = _padded(x, a["pads"], -math.inf) if any(a["pads"]) else (x, None)
        return F.max_pool2d(padded, kernel, strides, 0, dilations)
    if any(dilation != 1 for dilation in dilations):
        raise QuantizationError("average pooling with dilation has no torch function here.")
    top, left, bottom, right = (int(pad) for pad in a["pads"])
    padded = F.pad(x, (left, right, top, bottom))
    y = F.avg_pool2d(padded, kernel, strides)
    if a["count_include_pad"] or not any(a["pads"]):
        return y
    inside = F.pad(torch.ones_like(x[:1, :1]), (left, right, top, bottom))
    return y / F.avg_pool2d(inside, kernel, strides)


def _global_pool(a: Attributes, x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True) if a["kind"] == "average" else x.amax((2, 3), keepdim=True)


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[int(a["axis"]) :], scale, bias, float(a["epsilon"]))


def _reshape(a: Attributes, x: Tensor) -> Tensor:
    shape = tuple(int(side) for side in a["shape"])
    return x.reshape(len(x), *shape[1:]) if shape and shape[0] == 1 else x.reshape(shape)


def _concat(a: Attributes, *parts: Tensor) -> Tensor:
    # A constant that was spread over a batch of one, such as a class token.
    images = max(len(part) for part in parts)
    same = [part.expand(images, *part.shape[1:]) if len(part) == 1 and a["axis"] else part for part in parts]
    return torch.cat(same, int(a["axis"]))


def _slice(a: Attributes, x: Tensor) -> Tensor:
    for start, end, axis, step in zip(*(a[key] for key in ("starts", "ends", "axes", "steps")), strict=True):
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, end, step),)]
        else:
            x = x.index_select(axis, torch.tensor(range(x.shape[axis])[start:end:step]))
    return x


def _pad(a: Attributes, x: Tensor) -> Tensor:
    rank = x.dim()
    pads = [int(a["pads"][axis + side]) for axis in reversed(range(rank)) for side in (0, rank)]
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if a["mode"] == "constant":
        return F.pad(x, pads, value=float(a["value"]))
    # Other modes pad the last axes alone.
    while pads and pads[-2:] == [0, 0] and len(pads) > 2 * (rank - 2):
        pads = pads[:-2]
    return F.pad(x, pads, mode=modes[a["mode"]])


def _depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    r = int(a["blocksize"])
    if a.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, r)
    return x.reshape(n, r, r, c // r**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // r**2, h * r, w * r)


def _space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    r = int(a["blocksize"])
    return x.reshape(n, c, h // r, r, w // r, r).permute(0, 3, 5, 1, 2, 4).reshape(n, c * r * r, h // r, w // r)


def _gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = int(a.get("axis", 0)) % x.dim()
    flat = indices.reshape(-1).long()
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


FUNCTIONS: Mapping[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Activate": lambda a, x, slope=None: activate(a["activation"], x, slope),
    "Add": _binary(torch.add),
    "ChannelShuffle": lambda a, x: F.channel_shuffle(x, int(a["groups"])),
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _binary(torch.div),
    "Gather": _gather,
    "GlobalPool": _global_pool,
    "LayerNormalization": _layer_norm,
    "Linear": _linear,
    "LogSoftmax": lambda a, x: F.log_softmax(x, int(a["axis"])),
    "MatMul": lambda a, x, y: x @ y,
    "Max": _binary(torch.maximum),
    "Min": _binary(torch.minimum),
    "Mul": _binary(torch.mul),
    "Pad": _pad,
    "Pool": _pool,
    "Pow": _binary(torch.pow),
    "ReduceMean": lambda a, x: x.mean(tuple(a["axes"]), keepdim=bool(a["keepdims"])),
    "Reshape": _reshape,
    "ScaleShift": _scale_shift,
    "Slice": _slice,
    "Softmax": lambda a, x: F.softmax(x, int(a["axis"])),
    "SpaceToDepth": _space_to_depth,
    "Split": lambda a, x: x.split([int(size) for size in a["sizes"]], int(a["axis"])),
    "Sub": _binary(torch.sub),
    "Transpose": lambda a, x: x.permute(tuple(a["perm"])),
}
