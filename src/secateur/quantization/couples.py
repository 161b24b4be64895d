"""Which layers of an ONNX file may share out a scale of their channels: what f(s x) = s f(x), s > 0, lies between them.

    first --(operators that keep channels apart and are positively homogeneous)--> second, and nobody else reads

1. Both layers are convolutions or linear layers with a tensor of their own that one operator uses.
2. Between them: Relu, LeakyRelu, PRelu, padding with zeros, pooling, means over positions, flattening, Identity,
   Dropout; Clip from 0 is noted, because its upper bound has to move with the scale.
3. Hard-swish, SiLU, sigmoid, squeeze-excite, sums, forks and outputs of the graph block, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf, prod

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.graph.constants import Constants, attribute
from secateur.graph.shapes import Shapes
from secateur.posttraining.onnx_layers import OnnxLayers
from secateur.posttraining.onnx_uses import Use

# Work on every element alone, on the same axes.
_ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Identity", "Dropout"})
_SPATIAL = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum"}
)
_SHAPES = frozenset({"Flatten", "Reshape", "Squeeze"})
_WORDS = {"Sigmoid": "a sigmoid (SiLU or squeeze-excite)", "HardSigmoid": "a hard sigmoid", "HardSwish": "hard-swish"}


@dataclass(frozen=True)
class Couple:
    """Two layers, the second of which alone reads what the first gives.

    spread    consecutive inputs of `second` that come from one channel; 1 but where maps are flattened
    clips     names of the outputs of Clip operators with an upper bound on the way
    rectified the way is one Relu and what leaves a constant as it is: a number may be moved through it
    padded    zeros are joined on the way or by `second`
    value     name of what stands behind the functions of single numbers that follow `first`
    """

    first: str
    second: str
    spread: int
    clips: tuple[str, ...]
    rectified: bool
    padded: bool
    value: str


@dataclass(frozen=True)
class Couples:
    """All couples, in order of the first layers, and why the other layers are in none."""

    couples: tuple[Couple, ...]
    blocked: Mapping[str, str]


def find_couples(model: onnx.ModelProto, layers: OnnxLayers, shapes: Shapes) -> Couples:
    """The couples of a float model, by the rules above."""
    wiring = _Wiring(model, layers, shapes)
    couples: list[Couple] = []
    blocked: dict[str, str] = {}
    for name, found in layers.layers.items():
        if len(found.uses) > 1:
            blocked[name] = "several operators use its weight"
            continue
        if found.layer.kind == "conv_transpose":
            blocked[name] = "it is a transposed convolution"
            continue
        result = wiring.follow(name, found.uses[0])
        if isinstance(result, Couple):
            couples.append(result)
        else:
            blocked[name] = result
    return Couples(tuple(couples), blocked)


@dataclass(frozen=True)
class _Wiring:
    model: onnx.ModelProto
    layers: OnnxLayers
    shapes: Shapes

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def outputs(self) -> set[str]:
        return {value.name for value in self.model.graph.output}

    @cached_property
    def constants(self) -> Constants:
        return Constants(self.model.graph)

    @cached_property
    def owners(self) -> dict[int, tuple[str, Use]]:
        """id of an operator -> the layer that it is."""
        return {id(use.node): (name, use) for name, found in self.layers.layers.items() for use in found.uses}

    def follow(self, name: str, use: Use) -> Couple | str:
        """From the outputs of a layer to the layer that reads them, or what is in the way."""
        channels = self.layers.weight(name).shape[0]
        last = use.bias[0] if use.bias is not None else use.node
        value = last.output[0]
        linear, rank = use.geometry.kind == "linear", len(self.shapes.of.get(value, ()))
        clips: list[str] = []
        operators: list[str] = []
        padded, reached = False, value
        while True:
            if value in self.outputs:
                return "an output of the network reads it"
            readers = self.readers.get(value, [])
            if len(readers) != 1:
                return f"{len(readers)} operators read it"
            node = readers[0]
            if id(node) in self.owners:
                return self._met(name, channels, value, node, linear, clips, operators, padded, reached)
            allowed = node.op_type in _ELEMENTWISE or (node.op_type in _SHAPES | _SPATIAL | {"Pad"} and not linear)
            if not allowed or node.domain not in ("", "ai.onnx"):
                return f"{_WORDS.get(node.op_type, node.op_type)} behind it does not commute with scales of channels"
            if node.input[0] != value:
                return f"'{node.name or node.op_type}' ({node.op_type}) reads it beside its first operand"
            reason = self._obstacle(node, value, channels, rank)
            if reason:
                return reason
            if node.op_type == "Clip" and self._bounds(node)[1] < inf:
                clips.append(node.output[0])
            padded |= node.op_type == "Pad" or any(attribute(node, "pads", ()))
            operators.append(node.op_type)
            value = node.output[0]
            reached = value if node.op_type in _ELEMENTWISE and set(operators) <= _ELEMENTWISE else reached

    def _met(
        self,
        first: str,
        channels: int,
        value: str,
        node: onnx.NodeProto,
        linear: bool,
        clips: list[str],
        operators: list[str],
        padded: bool,
        reached: str,
    ) -> Couple | str:
        second, use = self.owners[id(node)]
        if use.input != value:
            return f"{second} uses it as its weight"
        if len(self.layers.layers[second].uses) > 1:
            return f"several operators use the weight of {second}"
        kind, shape = use.geometry.kind, self.layers.weight(second).shape
        if kind == "conv_transpose" or use.rows_last or (linear and kind != "linear"):
            return f"{second} reads it in a way that is not followed"
        if kind == "linear" and not linear and len(self.shapes.of.get(value, ())) != 2:
            return f"{second} multiplies more than one vector for each image"
        inputs = shape[1] * (use.geometry.groups if kind != "linear" else 1)
        if inputs % channels:
            return f"{second} reads {inputs} channels where there are {channels}"
        padded |= any(side for sides in use.geometry.padding for side in sides)
        rectified = operators.count("Relu") == 1 and not {"LeakyRelu", "PRelu", "Clip", "ReduceSum"} & set(operators)
        return Couple(first, second, inputs // channels, tuple(clips), rectified, padded, reached)

    def _obstacle(self, node: onnx.NodeProto, value: str, channels: int, rank: int) -> str | None:
        """Why an operator of the allowed kinds is in the way all the same."""
        title = f"'{node.name or node.op_type}' ({node.op_type})"
        if node.op_type == "Clip":
            low = self._bounds(node)[0]
            if self._bounds(node)[1] < inf and len(self.shapes.of.get(value, ())) != rank:
                return f"{title} has an upper bound behind a change of shape"
            return None if low in (0.0, -inf) else f"{title} clips at {low:g}"
        if node.op_type == "PRelu" and self.constants.find(node.input[1]) is None:
            return f"{title} has slopes that are computed"
        if node.op_type == "Pad":
            constant = self._number(node, 2, 0.0)
            plain = attribute(node, "mode", b"constant") != b"constant" or constant == 0.0
            return None if plain else f"{title} pads with something else than zeros"
        before, after = self.shapes.of.get(value, ()), self.shapes.of.get(node.output[0], ())
        if node.op_type in _SPATIAL | _SHAPES:
            if len(before) < 2 or len(after) < 2 or before[1] % channels:
                return f"{title} works on values of unknown shape"
            same = after[:2] == before[:2] if node.op_type in _SPATIAL else after[0] == before[0]
            flat = len(after) == 2 and after[1] == prod(before[1:])
            if not same or not (after[1] == before[1] or flat):
                return f"{title} joins channels"
        return None

    def _bounds(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Of a Clip; an upper bound that is computed counts as one below infinity, a lower one as an obstacle."""
        # Before opset 11 the bounds were attributes.
        low = self._number(node, 1, float(attribute(node, "min", -inf)))
        high = self._number(node, 2, float(attribute(node, "max", inf)))
        return float("nan") if low is None else low, 0.0 if high is None else high

    def _number(self, node: onnx.NodeProto, operand: int, default: float) -> float | None:
        """A scalar operand; None where it is computed."""
        if len(node.input) <= operand or not node.input[operand]:
            return default
        constant = self.constants.find(node.input[operand])
        return float(constant.array.reshape(-1)[0]) if constant is not None and constant.array.size == 1 else None


def channel_ranges(weight: NDArray[np.float64], groups: int, spread: int) -> NDArray[np.float64]:
    """(channels,) largest magnitude of the weights that read each channel; weight filter first."""
    grouped = np.abs(weight).reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return grouped.max(axis=(1, 3)).reshape(-1, spread).max(axis=1)


def scale_inputs(
    weight: NDArray[np.float64], groups: int, spread: int, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weight with what reads channel i multiplied by scale[i]."""
    own = np.repeat(scale, spread).reshape(groups, 1, weight.shape[1], 1)
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return (grouped * own).reshape(weight.shape)
