"""Cutting channels out of an ONNX file in memory.

1. A channel goes everywhere: out of every stored tensor that has an entry for it, and out of every value.
2. Nodes that carry numbers about channels get new ones (onnx_numbers.py).
3. On request, what a constant channel gives to its readers goes into their biases (onnx_fold.py).
4. What nobody reads any more is dropped.
5. Every value of the result has the shape that is left of it, or nothing is returned.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from secateur.channels.onnx_boxes import Boxes, Flags
from secateur.channels.onnx_constants import KnownChannels
from secateur.channels.onnx_fold import add_to_biases, folded
from secateur.channels.onnx_network import constant_tensor
from secateur.channels.onnx_numbers import Rewriter
from secateur.channels.onnx_table import OnnxTrace
from secateur.errors import ModelError, SparsityError
from secateur.graph.ir import TensorType
from secateur.graph.load import load_graph


def cut_onnx(trace: OnnxTrace, gone: Flags, known: KnownChannels | None = None) -> onnx.ModelProto:
    """The model without channels; the one that was traced is used up.

    gone      (atoms,) whether the channel of an atom goes
    known     of the same trace: rule 3 is carried out
    raises    SparsityError  nodes that could not do without just these channels
    """
    boxes = Boxes(trace, gone)
    model = trace.network.model
    sound = _is_sound(model)
    folds = folded(trace, boxes, known) if known is not None else ()
    biases = {reader.node.outputs[0]: more[boxes.flags(reader.rows)] for reader, more in folds}
    arrays = _cut_tensors(trace, boxes)
    shapes = {name: boxes.shape(name) for name in trace.values if boxes.axes(name) is not None}
    Rewriter(trace, boxes).run()
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    for node in model.graph.node:
        constant = constant_tensor(node)
        if constant is not None and node.output[0] in arrays:
            constant.CopyFrom(numpy_helper.from_array(arrays[node.output[0]], constant.name))
    for value in model.graph.input:
        if value.name in arrays:
            for side, length in zip(value.type.tensor_type.shape.dim, arrays[value.name].shape, strict=True):
                side.dim_value = length
    recorded = [
        value for value in model.graph.value_info if value.name not in trace.values or boxes.is_whole(value.name)
    ]
    recorded = [value for value in recorded if value.name not in arrays]
    del model.graph.value_info[:]
    model.graph.value_info.extend(recorded)
    drop_unread(model.graph)
    add_to_biases(model, biases)
    _check(model, trace, shapes, sound)
    return model


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes, initializers and recorded shapes that nothing reads."""
    read = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if any(name in read for name in node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            read.update(_reads(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for entries in (graph.initializer, graph.value_info):
        for index in reversed(range(len(entries))):
            if entries[index].name not in read:
                del entries[index]


def _reads(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            names.update(name for inner in body.node for name in _reads(inner))
            names.update(value.name for value in body.output)
    return names


def _cut_tensors(trace: OnnxTrace, boxes: Boxes) -> Mapping[str, NDArray[np.generic]]:
    kept: dict[str, dict[int, Flags]] = {}
    groups: dict[str, int] = {}
    for (tensor, axis), known in trace.ids.axes().items():
        kept.setdefault(tensor, {})[axis] = boxes.flags(known.atoms)
        if known.groups > 1:
            groups[tensor] = known.groups
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, axes in kept.items():
        if all(flags.all() for flags in axes.values()):
            continue
        array = trace.graph.constants[name]
        if not all(flags.any() for flags in axes.values()):
            raise SparsityError(f"{name}: every entry of it would go; one channel must stay.")
        if name in groups:
            arrays[name] = _cut_groups(name, array, axes, groups[name])
            continue
        for axis, flags in axes.items():
            array = np.compress(flags, array, axis=axis)
        arrays[name] = array
    return arrays


def _cut_groups(name: str, array: NDArray[np.generic], axes: Mapping[int, Flags], groups: int) -> NDArray[np.generic]:
    """The weight of a grouped convolution: the filters of each group read the channels of their group."""
    rows = axes.get(0, np.ones(len(array), bool))
    parts = zip(np.split(array, groups), np.split(rows, groups), np.split(axes[1], groups), strict=True)
    cut = [part[filters][:, channels] for part, filters, channels in parts if filters.any()]
    if len({part.shape for part in cut}) != 1:
        raise SparsityError(f"{name}: its {groups} groups must keep as many channels as each other.")
    return np.concatenate(cut)


def _is_sound(model: onnx.ModelProto) -> bool:
    """Whether ONNX's own checks have nothing against a file as it came, such as a deprecated operator."""
    if model.ByteSize() >= 2**31:
        return True  # they cannot look at one so large; what is left of it may be smaller
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


def _check(model: onnx.ModelProto, trace: OnnxTrace, shapes: Mapping[str, tuple[int, ...]], sound: bool) -> None:
    """Rule 5, and ONNX's own checks where the file passed them before."""
    inputs = {name: trace.shape(name) for name in trace.graph.inputs if name in trace.graph.types}
    try:
        types = load_graph(model, input_shapes=_open(model, inputs)).types
        _give_ranks_(model, types)
        if sound:
            onnx.checker.check_model(model, full_check=model.ByteSize() < 2**31)
    except (ModelError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SparsityError(f"without these channels the network does not fit together: {error}") from error
    for name, shape in shapes.items():
        if name in types and types[name].shape != shape:
            raise SparsityError(
                f"without these channels '{name}' would have the shape {types[name].shape} instead of {shape}."
            )


def _give_ranks_(model: onnx.ModelProto, types: Mapping[str, TensorType]) -> None:
    """Outputs that do not say their shapes get the number of their sides, which ONNX's own checks ask for."""
    for value in model.graph.output:
        if value.name in types and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()
            for _ in types[value.name].shape:
                value.type.tensor_type.shape.dim.add()


def _open(model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes that the trace gave to inputs, where the file leaves sides open."""
    found: dict[str, tuple[int, ...]] = {}
    for value in model.graph.input:
        if value.name in inputs and not all(side.HasField("dim_value") for side in value.type.tensor_type.shape.dim):
            found[value.name] = inputs[value.name]
    return found
