"""Integers without images: the baseline that is expected to collapse, and that calibration is compared with.

    global    one fixed range for all activations
    bn        what batch norms give lies within  beta -+ 6 |gamma|  (one range for the tensor, the outermost of its
              channels); further on ranges follow the operators: sums add up, ReLU cuts off, averages and moves keep
    random    what one batch of standard normal noise shows

Weights have the ranges of their own numbers. Source: ALGORITHMS.md H1 (DLAS).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from torch import nn

from secateur.errors import QuantizationError
from secateur.quantization.calibrate import observe, table_of
from secateur.quantization.points import Points
from secateur.quantization.prepare import prepared
from secateur.quantization.rewriting import constant_of, is_op, operand
from secateur.quantization.roles import given, role_of
from secateur.quantization.seen import Seen, Statistics
from secateur.quantization.settings import Settings
from secateur.quantization.table import ScaleTable
from secateur.sparsity.norms import following_norms

Source = Literal["global", "bn", "random"]
Range = tuple[float, float]

# What one range for everything is: normalised images lie within +-3, values behind norms mostly within +-6.
EVERYTHING: Range = (-6.0, 6.0)
# Standard deviations to both sides of the mean of a batch norm's output.
DEVIATIONS = 6.0


def uncalibrated_table(
    model: onnx.ModelProto,
    points: Points,
    source: Source,
    settings: Settings | None = None,
    *,
    norms: Mapping[str, Range] | None = None,
    everything: Range = EVERYTHING,
    images: tuple[int, ...] = (),
    seed: int = 0,
) -> ScaleTable:
    """The table of a prepared model without looking at an image.

    norms         for `bn`: name of a value -> its range, as `ranges_of_norms` or `ranges_of_network` tell it
    everything    for `global`, and for what no norm says anything of
    images        for `random`: (images, channels, height, width) of the noise
    raises        QuantizationError
    """
    own = settings or Settings("minmax")
    if source == "random":
        if len(images) != 4:
            raise QuantizationError("noise needs a shape: images=(images, channels, height, width).")
        noise = np.random.default_rng(seed).standard_normal(images).astype(np.float32)
        seen = observe(model, lambda: [noise], points)
        return table_of(model, points, seen, lambda _node, _kind: own)
    if source not in ("global", "bn"):
        raise QuantizationError(f"ranges without images come from global, bn or random, not '{source}'.")
    if source == "bn" and not norms:
        raise QuantizationError(
            "the model has no batch norms to take ranges from; they may be folded: give `norms`, or use global."
        )
    known = _ranges(model, norms or {}, everything) if source == "bn" else {}
    seen = [_standing_for([known.get(name, everything) for name in group.observed]) for group in points.groups]
    # There is a range and nothing else: whatever observer is set, it has nothing to choose from.
    own = replace(own, observer="minmax", options=None)
    return table_of(model, points, seen, lambda _node, _kind: own)


def ranges_of_norms(model: onnx.ModelProto) -> dict[str, Range]:
    """Value that a BatchNormalization of a float file gives -> its range. Values keep their names when it is folded."""
    found: dict[str, Range] = {}
    for node in ir.from_proto(model).graph:
        gamma, beta = constant_of(operand(node, 1)), constant_of(operand(node, 2))
        if is_op(node, "BatchNormalization") and gamma is not None and beta is not None:
            found[node.outputs[0].name or ""] = _range(gamma, beta)
    return found


def ranges_of_network(network: nn.Module, input_size: tuple[int, ...] | None = None) -> dict[str, Range]:
    """Layer of a torch network -> range of the batch norm behind it: what our export calls the layer's value."""
    modules = dict(network.named_modules())
    found: dict[str, Range] = {}
    for layer, name in following_norms(network, input_size).items():
        norm: Any = modules[name]
        if norm.weight is not None:
            found[layer] = _range(norm.weight.detach().cpu().numpy(), norm.bias.detach().cpu().numpy())
    return found


def _range(gamma: np.ndarray, beta: np.ndarray) -> Range:
    reach = DEVIATIONS * np.abs(gamma.astype(np.float64))
    return float((beta - reach).min()), float((beta + reach).max())


def _standing_for(ranges: list[Range]) -> Seen:
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return Seen(Statistics(low, high, low, high, (low + high) / 2, (high - low) / 12, (high - low) / 16))


def _ranges(model: onnx.ModelProto, norms: Mapping[str, Range], everything: Range) -> dict[str, Range]:
    """Ranges of all values, from front to back."""
    graph = ir.from_proto(prepared(model)).graph
    found: dict[ir.Value, Range] = dict.fromkeys(graph.inputs, everything)
    for node in graph:
        inputs = [found.get(value, everything) for value in given(node) if constant_of(value) is None]
        for value in node.outputs:
            found[value] = norms.get(value.name or "") or _through(node, inputs, everything)
    return {value.name or "": bounds for value, bounds in found.items()}


def _through(node: ir.Node, inputs: list[Range], everything: Range) -> Range:
    """What an operator makes of ranges."""
    role = role_of(node)
    if not inputs or role in ("layer", "product", "other"):
        return everything
    low, high = min(low for low, _ in inputs), max(high for _, high in inputs)
    if role in ("move", "average", "shape"):
        return low, high
    if role == "sum":
        corners = [_SUMS[node.op_type](a, b) for a in inputs[0] for b in inputs[1]]
        return min(corners), max(corners)
    if is_op(node, "Relu"):
        return max(low, 0.0), max(high, 0.0)
    if is_op(node, "Clip"):
        ends = [constant_of(operand(node, index)) for index in (1, 2)]
        bottom, top = (float(end.reshape(())) if end is not None else None for end in ends)
        low, high = (max(end, bottom) if bottom is not None else end for end in (low, high))
        return tuple(min(end, top) if top is not None else end for end in (low, high))  # type: ignore[return-value]
    return (0.0, 1.0) if is_op(node, "Sigmoid", "HardSigmoid") else (low, high)


_SUMS: dict[str, Callable[[float, float], float]] = {"Add": lambda a, b: a + b, "Mul": lambda a, b: a * b}
