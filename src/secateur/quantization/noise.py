"""Where quantization loses what: signal-to-noise ratios of every layer, and values beyond their range.

    own        -10 log10 mean over channels of  min(1, sum (y' - y)^2 / sum y^2)
               y' = the layer with its own weights and inputs rounded, everything before it float
    total      the same with the whole network rounded up to here: the waterfall
    beyond     share of the numbers that the layer reads which lie outside the range of their scale

Every channel counts alike: beside one that is much larger than the others, what is lost in these would not be seen, and
the next layer's weights are often as much smaller. A channel of zeros is left out, one whose noise is as strong as its
signal is lost and counts 1. All is computed inside one ONNX Runtime session; no value leaves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.errors import QuantizationError
from secateur.graph.old_opset import opset_of
from secateur.graph.shapes import Shapes, infer_shapes
from secateur.graph.table import text_table
from secateur.quantization.numbers import Scale, rounded
from secateur.quantization.roles import Roles
from secateur.quantization.runs import Runs, images_of
from secateur.quantization.simulate import rounding_nodes, simulated
from secateur.quantization.subjects import Batches, copy_of, size_of
from secateur.quantization.table import ScaleTable

# Half a step of more than 16 bits: what counts as without noise.
CLEAN = 120.0


@dataclass(frozen=True)
class LayerNoise:
    """One node that computes with integers.

    own, total    decibels from 0 to 120; a signal of zeros counts as clean
    beyond        fraction
    """

    node: str
    op: str
    own: float
    total: float
    beyond: float


@dataclass(frozen=True)
class Noise:
    """All of them, in order of execution; prints as a waterfall."""

    layers: tuple[LayerNoise, ...]

    def __getitem__(self, node: str) -> LayerNoise:
        return next(layer for layer in self.layers if layer.node == node)

    def worst(self) -> tuple[LayerNoise, ...]:
        """The noisiest by their own numbers first."""
        return tuple(sorted(self.layers, key=lambda layer: layer.own))

    def __str__(self) -> str:
        rows = [
            (row.node, row.op, f"{row.own:.1f}", f"{row.total:.1f}", f"{row.beyond:.2%}", "#" * _bar(row.total))
            for row in self.layers
        ]
        return text_table(("layer", "operator", "own dB", "total dB", "beyond", "total"), rows, left=2)


def measure_noise(model: onnx.ModelProto, table: ScaleTable, batches: Batches) -> Noise:
    """The noise of every node that computes with integers, on calibration images.

    model     prepared
    raises    QuantizationError  a table of another model, or no images
    """
    nodes = _integer_nodes(model, table)
    if not nodes:
        return Noise(())
    probe = _Probe(model, table, nodes, infer_shapes(model, size_of(batches)))
    run = Runs(probe.model, optimized=False, threads=1)
    sums: dict[str, NDArray[np.float64]] = {}
    count = 0
    for images in images_of(batches()):
        # As many as the file takes at once: a sum over images is no image's own value.
        size = run.batch or max(len(images), 1)
        for start in range(0, len(images), size):
            found = run(images[start : start + size])
            for name in probe.outputs:
                own = np.asarray(found[name], np.float64).reshape(-1)
                sums[name] = sums[name] + own if name in sums else own
        count += len(images)
    if not count:
        raise QuantizationError("noise is measured on calibration images; there are none.")
    rows = [
        LayerNoise(
            node.name,
            node.op_type,
            _decibels(sums[f"{node.name}!signal"], sums[f"{node.name}!own"]),
            _decibels(sums[f"{node.name}!signal"], sums[f"{node.name}!total"]),
            float(sums[f"{node.name}!beyond"][0] / max(sums[f"{node.name}!read"][0], 1.0)),
        )
        for node in nodes
    ]
    return Noise(tuple(rows))


def _decibels(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    alive = signal > 0
    if not alive.any():
        return CLEAN
    shares = np.nan_to_num(noise[alive] / signal[alive], nan=1.0, posinf=1.0)
    lost = float(np.minimum(shares, 1.0).mean())
    return min(-10 * float(np.log10(lost)), CLEAN) if lost > 0 else CLEAN


def _bar(decibels: float) -> int:
    return int(np.clip(decibels / 2, 0, 30))


def _integer_nodes(model: onnx.ModelProto, table: ScaleTable) -> list[onnx.NodeProto]:
    """Layers, products, sums and averages that read rounded values or weights and do not stay float."""
    graph = ir.from_proto(model).graph
    roles = Roles(graph)
    named = {node.name: roles[node] for node in graph}
    return [
        node
        for node in model.graph.node
        if named[node.name] in ("layer", "product", "sum", "average")
        and node.name not in table.floats
        and any(name in table.values or name in table.weights for name in node.input)
    ]


class _Probe:
    """The float network, the rounded one beside it, and a twin of every layer between them."""

    def __init__(self, model: onnx.ModelProto, table: ScaleTable, nodes: list[onnx.NodeProto], shapes: Shapes) -> None:
        self.model, self._opset = copy_of(model), opset_of(model)
        self.graph = self.model.graph
        self.outputs: list[str] = []
        self._rounded: dict[str, str] = {}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        beside = self._beside(simulated(model, table))
        for node in nodes:
            output = node.output[0]
            if output not in shapes.of:
                raise QuantizationError(f"{node.name}: the shape of its result is not known, so neither is its noise.")
            self._twin(node, table, beside, len(shapes.of[output]))
        del self.graph.output[:]
        self.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.outputs)

    def _beside(self, rough: onnx.ModelProto) -> Mapping[str, str]:
        """The rounded network under other names: value -> its name there. Weights that are equal are shared."""
        inputs = {value.name for value in rough.graph.input}
        names = {name: f"{name}!rough" for node in rough.graph.node for name in node.output if name}
        for tensor in rough.graph.initializer:
            own = self._tensors.get(tensor.name)
            if own is None or own.SerializeToString() != tensor.SerializeToString():
                names[tensor.name] = f"{tensor.name}!rough"
                self.graph.initializer.append(tensor)
                self.graph.initializer[-1].name = names[tensor.name]
        for node in rough.graph.node:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            copied.name = f"{node.name}!rough"
            for index, name in enumerate(node.input):
                copied.input[index] = name if name in inputs else names.get(name, name)
            for index, name in enumerate(node.output):
                copied.output[index] = names.get(name, name)
            self.graph.node.append(copied)
        return names

    def _twin(self, node: onnx.NodeProto, table: ScaleTable, beside: Mapping[str, str], rank: int) -> None:
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name, output = f"{node.name}!twin", node.output[0]
        del twin.output[:]
        twin.output.append(f"{output}!twin")
        beyond: list[str] = []
        for index, name in enumerate(node.input):
            if name in table.weights:
                twin.input[index] = self._weight(name, table.weights[name])
            elif name in table.values:
                beyond.append(name)
                twin.input[index] = self._value(name, table.values[name])
        self.graph.node.append(twin)
        # What the rounded network computes here, before its result is rounded itself.
        rough = beside.get(f"{output}__exact", beside[output])
        self._sum_of_squares(output, f"{node.name}!signal", rank)
        for name, other in ((f"{node.name}!own", twin.output[0]), (f"{node.name}!total", rough)):
            difference = f"{name}/difference"
            self.graph.node.append(helper.make_node("Sub", [other, output], [difference], difference))
            self._sum_of_squares(difference, name, rank)
        self._beyond(node.name, beyond, table)

    def _weight(self, name: str, scale: Scale) -> str:
        if name not in self._rounded:
            self._rounded[name] = f"{name}!twin"
            array = rounded(numpy_helper.to_array(self._tensors[name]), scale)
            self.graph.initializer.append(numpy_helper.from_array(array, self._rounded[name]))
        return self._rounded[name]

    def _value(self, name: str, scale: Scale) -> str:
        if name not in self._rounded:
            self._rounded[name] = f"{name}!told"
            self.graph.node.extend(rounding_nodes(self.model, name, self._rounded[name], scale))
        return self._rounded[name]

    def _sum_of_squares(self, value: str, result: str, rank: int) -> None:
        """For every channel: the second axis of maps, the last of anything else."""
        kept = 1 if rank in (2, 4) else rank - 1
        axes = [axis for axis in range(rank) if axis != kept]
        if self._opset < 18:
            self.graph.node.append(
                helper.make_node("ReduceSumSquare", [value], [result], result, axes=axes, keepdims=0)
            )
        else:
            self.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), f"{result}/axes"))
            self._emit("ReduceSumSquare", [value, f"{result}/axes"], result, keepdims=0)
        self.outputs.append(result)

    def _beyond(self, title: str, names: list[str], table: ScaleTable) -> None:
        """How many numbers the node reads, and how many of them lie outside their ranges by more than half a step."""
        for result in (f"{title}!beyond", f"{title}!read"):
            parts: list[str] = []
            for index, name in enumerate(dict.fromkeys(names)):
                parts.append(f"{result}/{index}")
                if result.endswith("!read"):
                    self._emit("Size", [name], f"{parts[-1]}/size")
                    self._emit("Cast", [f"{parts[-1]}/size"], parts[-1], to=onnx.TensorProto.FLOAT)
                    continue
                self._outside(name, table.values[name], parts[-1])
            if not parts:
                parts = [f"{result}/none"]
                self.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), parts[0]))
            self._emit("Sum", parts, result)
            self.outputs.append(result)

    def _outside(self, name: str, scale: Scale, result: str) -> None:
        low, high = (float(end) for end in scale.range)
        half = float(scale.step) / 2
        for key, number, op in (("low", low - half, "Less"), ("high", high + half, "Greater")):
            bound = f"{result}/{key}"
            self.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), bound))
            self._emit(op, [name, bound], f"{bound}/is")
        self._emit("Or", [f"{result}/low/is", f"{result}/high/is"], f"{result}/either")
        self._emit("Cast", [f"{result}/either"], f"{result}/number", to=onnx.TensorProto.FLOAT)
        self._emit("ReduceSum", [f"{result}/number"], result, keepdims=0)

    def _emit(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.graph.node.append(helper.make_node(op, inputs, [output], output, **attributes))
