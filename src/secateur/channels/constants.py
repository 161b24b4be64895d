"""Numbers inside a network that are the same for every image.

    the image is NaN, "not known";   0 * NaN = 0 where a weight, a factor or the scale of a norm is zero, else what
    meets NaN is NaN

What is not NaN after such a run does not depend on the image: the channel of a filter that is entirely zero holds
its bias, its norm makes another constant of it, its activation a third. In double precision. Our own design.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from secateur.channels.rules.elementwise import elementwise
from secateur.channels.rules.layers import batch_norm
from secateur.channels.side_table import SideTable, operator_rules
from secateur.channels.trace import follow, plain_copy
from secateur.errors import SparsityError

_PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "linear": (0, 1), "addmm": (1, 2)}
# Pixels of a resized constant differ in the last bits.
_SAME = 1e-12


@dataclass(frozen=True)
class Reading:
    """What a layer reads in one application.

    known     (channels,) whether the channel is the same for every image
    values    (channels,) float64: its value where it is also the same at every pixel, else NaN
    padded    whether zeros may be read beside it (zero padding, or a transposed convolution)
    """

    known: NDArray[np.bool_]
    values: NDArray[np.float64]
    padded: bool


def read_constants(model: nn.Module, shape: Sequence[int]) -> dict[str, list[Reading]]:
    """Name of a weight -> what its layer reads, for each application, in a run on one image of `shape`.

    raises    SparsityError  an operator that hides whether its result depends on the image
    """
    network = plain_copy(model).double()
    table = SideTable(network)
    watch = _Unknown(table)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), watch:
        network(torch.full((1, *shape), torch.nan, dtype=torch.float64))
    if watch.lost is not None:
        raise SparsityError(f"constants of channels cannot be followed through the operator {watch.lost}.")
    return watch.readings


class _Unknown(TorchDispatchMode):
    """Runs a network on what is not known."""

    def __init__(self, table: SideTable) -> None:
        super().__init__()
        self.readings: dict[str, list[Reading]] = {}
        self.lost: str | None = None
        self._table = table

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.removesuffix("_")
        kwargs = kwargs or {}
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        unknown = [_isnan(tensor) for tensor in operands]
        if name == "convolution" or name in _PRODUCTS:
            self._read(name, args)
            out = _convolution(func, args) if name == "convolution" else _product(name, func, args, kwargs)
        elif operator_rules.get(name) is batch_norm:
            out = func(*args, **kwargs)
            _fill_unscaled_(func, args, kwargs, out[0])
        elif operator_rules.get(name) is elementwise:
            zero = [tensor == 0 for tensor in operands] if name == "mul" else []
            out = func(*args, **kwargs)
            self._spoil(name, out, unknown, zero)
        else:
            out = func(*args, **kwargs)
            if name not in operator_rules and any(mask.any() for mask in unknown):
                self._spoil(name, out, [torch.ones((), dtype=torch.bool)], [])
        follow(self._table, func, args, kwargs, out)
        return out

    def _spoil(self, name: str, out: Any, unknown: list[Tensor], zero: list[Tensor]) -> None:
        for result in tree_leaves(out):
            if not isinstance(result, Tensor) or not any(mask.any() for mask in unknown):
                continue
            if not result.is_floating_point():
                self.lost = self.lost or name
                continue
            bad = torch.zeros(result.shape, dtype=torch.bool)
            for mask in unknown:
                bad |= mask
            result.masked_fill_(bad, torch.nan)
            for mask in zero:
                result.masked_fill_(mask, 0.0)

    def _read(self, name: str, args: Sequence[Any]) -> None:
        place, other = (0, 1) if name == "convolution" else _PRODUCTS[name]
        x, weight = args[place], self._table.weight(args[other])
        if weight is None:
            return
        rows = x.movedim(1 if name == "convolution" else -1, 0).flatten(1)
        low, high = rows.amin(1), rows.amax(1)
        uniform = (high - low).abs() <= _SAME * high.abs().clamp(min=1.0)
        values = torch.where(uniform, low, torch.nan).numpy()
        padded = name == "convolution" and (bool(args[6]) or any(args[4]))
        known = (~rows.isnan().any(1)).numpy()
        self.readings.setdefault(weight.name, []).append(Reading(known, values, padded))


def _convolution(func: Any, args: Sequence[Any]) -> Tensor:
    x, weight, _, *rest = args
    out = func(x.nan_to_num(0.0), *args[1:])
    reach = func(_isnan(x).double(), (weight != 0).double(), None, *rest)
    return out.masked_fill_(reach > 0.5, torch.nan)


def _product(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    first, second = _PRODUCTS[name]
    a, b = args[first], args[second]
    given = list(args)
    given[first], given[second] = a.nan_to_num(0.0), b.nan_to_num(0.0)
    out = func(*given, **kwargs)
    right = b.mT if name == "linear" else b
    reach = _isnan(a).double() @ (right != 0).double() + (a != 0).double() @ _isnan(right).double()
    return out.masked_fill_(reach > 0.5, torch.nan)


def _fill_unscaled_(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Tensor) -> None:
    """Channels that a norm multiplies by zero hold its shift, whatever comes in."""
    x, scale = args[0], args[1]
    if isinstance(scale, Tensor) and (zero := scale == 0).any():
        # Run on zeros: where the statistics are no numbers, neither is what the norm makes of them.
        out[:, zero] = func(torch.zeros_like(x), *args[1:], **kwargs)[0][:, zero]


def _isnan(tensor: Tensor) -> Tensor:
    return tensor.isnan() if tensor.is_floating_point() else torch.zeros((), dtype=torch.bool)
