"""Operators on single numbers: the channels that meet in one number become one channel.

A parameter that is added or multiplied (PReLU, layer scale, a position embedding) takes part along the axes of
channels; along other axes it keeps its length.
"""

import numpy as np

from secateur.channels.groups import IntArray
from secateur.channels.side_table import Call, SideTable, Weight, rule


@rule(
    "abs acos alias angle asin atan bernoulli bitwise_not ceil celu clamp clamp_max clamp_min clone contiguous cos "
    "cosh detach dropout elu empty_like erf erfc exp exp2 expm1 fill floor frac full_like gelu hardshrink "
    "hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu lift_fresh log log10 log1p log2 "
    "log_sigmoid_forward logical_not logit mish nan_to_num native_dropout neg ones_like positive rand_like "
    "randn_like reciprocal relu relu6 round rrelu rsqrt selu sigmoid sign silu sin sinh softplus softshrink softsign "
    "sqrt square tan tanh threshold to trunc zero zeros_like _to_copy"
)
@rule(
    "add addcdiv addcmul atan2 bitwise_and bitwise_or copy copysign div eq floor_divide fmax fmin fmod ge gt hypot "
    "le lerp logaddexp logical_and logical_or logical_xor lt masked_fill maximum minimum mul ne pow remainder rsub "
    "sub true_divide where xlogy _prelu_kernel"
)
def elementwise(table: SideTable, call: Call) -> None:
    tensors = list(call.tensors())
    weights = [tensor for tensor in tensors if table.weight(tensor) is not None]
    values = [tensor for tensor in tensors if table.weight(tensor) is None]
    if not any(table.is_value(tensor) for tensor in values):
        # Parameters among themselves, such as the exponential of a scale.
        values, weights = tensors, []
    out = call.out if not isinstance(call.out, tuple | list) else call.out[0]
    ids: IntArray = np.broadcast_to(np.int64(-1), ())
    for tensor in values:
        ids = table.ids.union(ids, table.of(tensor))
    ids = np.broadcast_to(ids, tuple(out.shape))
    for tensor in weights:
        weight = table.weight(tensor)
        if weight is not None:
            _join(table, weight, ids)
    for result in call.out if isinstance(call.out, tuple | list) else (out,):
        if result.shape == out.shape:
            table.set(result, ids)


def _join(table: SideTable, weight: Weight, ids: IntArray) -> None:
    """A parameter as operand: its axes that lie along channels belong to them."""
    for axis, index in weight.coordinates.items():
        if index.ndim > ids.ndim:
            continue
        places = [at for at in range(index.ndim) if index.shape[at] > 1 and index.stride(at)]
        length = weight.shape[axis]
        if len(places) != 1 or weight.axis(places[0]) != axis:
            table.ids.freeze(table.ids.produced(weight.name, axis, length, "parameter"), "used in parts")
            table.ids.freeze(ids, f"meets parts of {weight.name}")
            continue
        place = places[0] + ids.ndim - index.ndim
        atoms = table.ids.along(ids, place) if table.ids.varies(ids, place) else np.full(length, -1, dtype=np.int64)
        table.ids.member(weight.name, axis, atoms, "parameter")
