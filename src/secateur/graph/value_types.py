"""Types of all values of a model whose input shapes are known, node after node.

1. Recorded shapes inside the file are not believed: they are computed again. Only the outputs of operators that ONNX
   does not know keep the types that the file records; those of ONNX Runtime's operators that quantize inside are known
   from the float operators that they stand for.
2. What can be computed from shapes and small constants is computed (shape_arithmetic.py), so that shapes that depend
   on it are known.
3. An operator that does not fit its inputs is an error.
4. An operator whose output depends on data, or whose input has no type, leaves its outputs without one; the element
   type that the file records for them is kept.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import onnx
from onnx import checker, helper, numpy_helper, shape_inference

from secateur.errors import ModelError
from secateur.graph.ceil_mode import fix_ceil_mode
from secateur.graph.ir import TensorType, free_names
from secateur.graph.old_opset import reason_of
from secateur.graph.quantized.spelled import with_elements, with_floats
from secateur.graph.read import one_line
from secateur.graph.resize_shape import fix_resize
from secateur.graph.shape_arithmetic import MAX_ELEMENTS, Value, constant_of, value_of


@dataclass(frozen=True)
class ValueTypes:
    """What is known of the values of a model.

    known     value -> type, where the shape is complete and the elements are numbers
    loose     value -> what ONNX knows of the others
    """

    known: dict[str, TensorType]
    loose: dict[str, onnx.TypeProto]


def infer_types(model: onnx.ModelProto, *, strict: bool = True) -> ValueTypes:
    """Types of all values. Nodes that rule 2 computes are replaced by initializers, in place.

    model     closed inputs; large initializers may lack their bytes
    strict    apply rule 3; otherwise what does not fit has outputs without a type
    raises    ModelError
    """
    walk = _Walk(model, strict)
    left = [node for node in model.graph.node if not walk.visit(node)]
    if len(left) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(left)
    types = ValueTypes({}, {})
    for name, proto in walk.types.items():
        sides, dtype = sides_of(proto), dtype_name(proto.tensor_type.elem_type)
        if sides is None or dtype is None:
            types.loose[name] = proto
        else:
            types.known[name] = TensorType(sides, dtype)
    return types


class _Walk:
    """What is known so far: types of values, and the numbers of small constants."""

    def __init__(self, model: onnx.ModelProto, strict: bool) -> None:
        self._strict = strict
        self._graph = model.graph
        self._opsets = list(model.opset_import)
        self._versions = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in self._opsets}
        self._ir_version = model.ir_version
        self._recorded = {value.name: value.type for value in (*model.graph.value_info, *model.graph.output)}
        self._known: dict[str, Value] = {}
        self._data: dict[str, onnx.TensorProto] = {}
        self.types = {value.name: value.type for value in model.graph.input if value.HasField("type")}
        for tensor in model.graph.initializer:
            self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            value = constant_of(tensor)
            if value is not None:
                self._learn(tensor.name, value)

    def visit(self, node: onnx.NodeProto) -> bool:
        """Types of a node's outputs; whether the node is a constant now."""
        inferred = self._infer(node)
        for name in filter(None, node.output):
            if name in inferred and inferred[name].WhichOneof("value"):
                _check_sides(node, name, inferred[name])
                self.types[name] = inferred[name]
            elif name in self._recorded and self._recorded[name].WhichOneof("value"):
                self.types[name] = _without_sides(self._recorded[name])
        if fix_ceil_mode(node, self.types):
            return self.visit(node)
        fix_resize(node, self.types, self._known)
        if self._strict:
            _check_counts(node, self.types)
        if not all(self._is_small(name) for name in node.output):
            return False
        value = value_of(node, self._known, self._sides(node.input[0]) if node.input else None, self._opsets)
        if value is None:
            return False
        self._learn(node.output[0], value)
        if node.op_type == "Constant":
            return False
        self._graph.initializer.append(self._data[node.output[0]])
        return True

    def _learn(self, name: str, value: Value) -> None:
        self._known[name] = value
        self._data[name] = numpy_helper.from_array(value, name)

    def _sides(self, name: str) -> tuple[int, ...] | None:
        return sides_of(self.types[name]) if name in self.types else None

    def _is_small(self, name: str) -> bool:
        sides = self._sides(name)
        return sides is not None and math.prod(sides) <= MAX_ELEMENTS

    def _infer(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = self._versions.get(domain, 0)
        if not onnx.defs.has(node.op_type, version, domain):
            return self._spelled(node) or {name: self._recorded[name] for name in node.output if name in self._recorded}
        bodies = list(_bodies(node))
        outer = dict.fromkeys(name for body in bodies for name in free_names(body))
        if not all(name in self.types for name in (*filter(None, node.input), *outer)):
            return {}
        if any(_has_slice(body) for body in bodies):
            # As below, with sides that only ONNX sees.
            return {}
        if node.op_type == "Slice" and _may_be_empty(self.types[node.input[0]]):
            # ONNX's inference can end the process where a slice of nothing goes backwards.
            return {}
        schema = onnx.defs.get_schema(node.op_type, version, domain)
        try:
            return shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self.types[name] for name in (*filter(None, node.input), *outer)},
                {name: self._data[name] for name in node.input if name in self._data},
                None,
                self._opsets,
                self._ir_version,
            )
        except (checker.ValidationError, shape_inference.InferenceError, RuntimeError, ValueError) as error:
            details = cast(Any, schema)
            if not self._strict or domain or details.has_function or details.has_context_dependent_function:
                # Inference through the definition of a composed operator fails for some that are right.
                return self._elements(node, schema)
            raise ModelError(f"{_called(node)} does not fit its inputs: {reason_of(error)}.") from error

    def _spelled(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        """Types of an operator of ONNX Runtime that quantizes inside: the shapes of the float operator in it."""
        found = with_floats(node, self.types)
        version = self._versions.get("", 0)
        if found is None or not onnx.defs.has(found[0].op_type, version, ""):
            return {}
        given = {name: with_elements(self.types[name], onnx.TensorProto.FLOAT) for name in found[0].input}
        schema = onnx.defs.get_schema(found[0].op_type, version, "")
        try:
            types = shape_inference.infer_node_outputs(
                schema, found[0], given, {}, None, self._opsets, self._ir_version
            )
        except (checker.ValidationError, shape_inference.InferenceError, RuntimeError, ValueError):
            return {}
        return {name: with_elements(type, found[1]) for name, type in types.items()}

    def _elements(self, node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> dict[str, onnx.TypeProto]:
        """Element types of the outputs that share their type with an input."""
        given = {parameter.type_str: name for parameter, name in zip(schema.inputs, node.input, strict=False) if name}
        found: dict[str, onnx.TypeProto] = {}
        for parameter, name in zip(schema.outputs, node.output, strict=False):
            source = self.types.get(given.get(parameter.type_str, ""))
            if source is not None and source.HasField("tensor_type"):
                found[name] = onnx.TypeProto()
                found[name].tensor_type.elem_type = source.tensor_type.elem_type
        return found


def _called(node: onnx.NodeProto) -> str:
    name = f" '{one_line(node.name)}'" if node.name else ""
    return f"operator {one_line(node.op_type)}{name}"


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)


def _has_slice(body: onnx.GraphProto) -> bool:
    return any(node.op_type == "Slice" or any(map(_has_slice, _bodies(node))) for node in body.node)


def _may_be_empty(proto: onnx.TypeProto) -> bool:
    return any(side.HasField("dim_value") and side.dim_value < 1 for side in proto.tensor_type.shape.dim)


def _without_sides(proto: onnx.TypeProto) -> onnx.TypeProto:
    kept = onnx.TypeProto()
    kept.CopyFrom(proto)
    if kept.HasField("tensor_type"):
        kept.tensor_type.ClearField("shape")
    return kept


def _check_sides(node: onnx.NodeProto, name: str, proto: onnx.TypeProto) -> None:
    if proto.HasField("tensor_type") and any(side.dim_value < 0 for side in proto.tensor_type.shape.dim):
        raise ModelError(f"{_called(node)} would give '{one_line(name)}' a negative side.")


def _check_counts(node: onnx.NodeProto, types: dict[str, onnx.TypeProto]) -> None:
    """What ONNX's shape inference does not look at: channels of convolutions, elements of reshaped tensors."""
    names = (*node.input[:2], *node.output[:1])
    if node.op_type not in ("Conv", "Reshape") or node.domain not in ("", "ai.onnx") or len(names) < 3:
        return
    x, second, y = (sides_of(types[name]) if name in types else None for name in names)
    if node.op_type == "Reshape" and x is not None and y is not None and math.prod(x) != math.prod(y):
        raise ModelError(f"{_called(node)} cannot make the shape {y} out of {x}.")
    if node.op_type == "Conv" and x is not None and second is not None and len(x) == len(second) > 2:
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if x[1] != second[1] * group:
            raise ModelError(
                f"{_called(node)} reads {x[1]} channels; its weight of shape {second} with {group} groups does not "
                f"fit that."
            )


def sides_of(proto: onnx.TypeProto) -> tuple[int, ...] | None:
    """Sides of a tensor, None where one is open or it is no tensor."""
    if not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    sides = proto.tensor_type.shape.dim
    if not all(side.HasField("dim_value") and side.dim_value >= 0 for side in sides):
        return None
    return tuple(side.dim_value for side in sides)


def dtype_name(elem_type: int) -> str | None:
    """The numpy name of an ONNX element type; None for text and for types that numpy has no name for."""
    try:
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    except (KeyError, ValueError):
        return None
    return None if dtype.hasobject else dtype.name
