"""Weights and sums in 16-bit floats.

    fp16    5 bits of exponent: to 65504, from 6e-5 in full precision;  10 bits of fraction
    bf16    the exponents of float32;  7 bits of fraction

`storage` keeps float32 computation: weights are stored in 16 bits and cast when the file is loaded. `compute` makes the
whole graph 16-bit, with casts at its inputs, its outputs and around the nodes that are kept; whether that is faster is
the runtime's matter (fp16 was slower than float32 on every CPU in DLAS).

Source: ALGORITHMS.md H1.
"""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from secateur.errors import QuantizationError
from secateur.graph.table import text_table
from secateur.quantization.prepare import drop_unread_, prepared
from secateur.quantization.rewriting import constant_of, free_name, is_op
from secateur.quantization.runs import Runs

Half = Literal["fp16", "bf16"]
Mode = Literal["storage", "compute"]

_TYPES: dict[str, tuple[Any, ir.DataType]] = {
    "fp16": (np.dtype(np.float16), ir.DataType.FLOAT16),
    "bf16": (np.dtype(ml_dtypes.bfloat16), ir.DataType.BFLOAT16),
}
# bf16 is a type of convolutions and products since this opset.
_OPSET_OF_BFLOAT16 = 22
# Attributes that say which type an operator gives.
_TYPE_ATTRIBUTES = ("to", "dtype", "stash_type")


@dataclass(frozen=True)
class HalfTensor:
    """What became of one tensor.

    largest      its largest number without sign
    subnormal    share of its nonzero numbers that lose precision or become 0 because they are too small
    kept         why it stayed float32, None where it did not
    """

    name: str
    largest: float
    subnormal: float
    kept: str | None


@dataclass(frozen=True)
class HalfModel:
    """The model, and a row for every tensor with more than one number; printed, a table of them."""

    model: onnx.ModelProto
    tensors: tuple[HalfTensor, ...]

    def __str__(self) -> str:
        rows = [(t.name, f"{t.largest:.4g}", f"{100 * t.subnormal:.2f}", t.kept or "") for t in self.tensors]
        return text_table(("tensor", "largest", "too small %", "stays float32 because"), rows, left=1)


def to_half(model: onnx.ModelProto, kind: Half, mode: Mode = "storage", *, keep: Collection[str] = ()) -> HalfModel:
    """The model in 16-bit floats; its inputs and outputs stay float32.

    keep      globs of node names: they compute in float32, from float32 weights
    raises    QuantizationError  a kind that does not exist, NaN or infinity in a weight; in mode `compute` a number
              that is larger than the kind holds, and a model that ONNX Runtime cannot run so
    """
    if kind not in _TYPES or mode not in ("storage", "compute"):
        raise QuantizationError(f"16-bit floats are fp16 or bf16, in mode storage or compute; not '{kind}', '{mode}'.")
    written = ir.from_proto(prepared(model))
    if mode == "compute" and kind == "bf16" and written.opset_imports[""] < _OPSET_OF_BFLOAT16:
        raise QuantizationError(
            f"bf16 is a type of convolutions since opset {_OPSET_OF_BFLOAT16}, and the model is of opset "
            f"{written.opset_imports['']}; export it with that opset, or store weights in bf16 and compute in "
            "float32 (mode storage)."
        )
    tensors = _Writer(written, kind, mode, keep).write()
    drop_unread_(written.graph)
    proto = ir.to_proto(written)
    if mode == "compute":
        try:
            Runs(proto)
        except QuantizationError as error:
            raise QuantizationError(
                f"this machine's ONNX Runtime does not compute this model in {kind} ({error}); mode storage stores it "
                f"so and computes in float32."
            ) from error
    return HalfModel(proto, tensors)


@cache
def computes(kind: Half) -> bool:
    """Whether this machine's ONNX Runtime has convolutions of such numbers."""
    number = getattr(onnx.TensorProto, _TYPES[kind][1].name)
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["a"], to=number),
        onnx.helper.make_node("Cast", ["w"], ["b"], to=number),
        onnx.helper.make_node("Conv", ["a", "b"], ["c"]),
        onnx.helper.make_node("Cast", ["c"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 1, 2, 2)) for name in "xy")
    weight = onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    opset = onnx.helper.make_opsetid("", _OPSET_OF_BFLOAT16)
    graph = onnx.helper.make_graph(nodes, "probe", [x], [y], [weight])
    try:
        Runs(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10))
    except QuantizationError:
        return False
    return True


class _Writer:
    def __init__(self, model: ir.Model, kind: Half, mode: Mode, keep: Collection[str]) -> None:
        self.graph, self.opset, self.kind, self.mode = model.graph, model.opset_imports.get("", 0), kind, mode
        self.dtype, self.type = _TYPES[kind]
        self.kept = {
            node
            for node in model.graph
            if any(fnmatchcase(node.name or "", pattern) for pattern in keep) or not self._admits(node)
        }

    def write(self) -> tuple[HalfTensor, ...]:
        rows: list[HalfTensor] = []
        casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        inputs = [value for value in self.graph.inputs if value.dtype == ir.DataType.FLOAT]
        for value in list(self.graph.initializers.values()):
            array = constant_of(value)
            if array is None or array.dtype != np.float32:
                continue
            users = [use for use in value.uses() if use.node not in self.kept and self._admits(use.node, use.idx)]
            row = self._row(value.name or "", array, bool(users))
            if array.size > 1:
                rows.append(row)
            if row.kept and self.mode == "compute" and users:
                raise QuantizationError(f"{row.name}: {row.kept}; keep its layer float, or use bf16.")
            if row.kept or (self.mode == "storage" and array.size == 1):
                continue
            self._store(value, array, users)
        if self.mode == "compute":
            self._compute(inputs, casts)
        return tuple(rows)

    def _admits(self, node: ir.Node, index: int | None = None) -> bool:
        """Whether ONNX lets an operand be of this kind, or the result; scales of Resize are float32 always."""
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, self.opset):
            return True
        schema = onnx.defs.get_schema(node.op_type, self.opset)
        formal = schema.outputs if index is None else schema.inputs
        types = formal[min(index or 0, len(formal) - 1)].types
        # What is only stored so is float32 again when it is read, which older opsets allow for bf16 too.
        half = self.type if self.mode == "compute" else ir.DataType.FLOAT16
        return f"tensor({half.name.lower()})" in types or "tensor(float)" not in types

    def _row(self, name: str, array: NDArray[np.float32], used: bool) -> HalfTensor:
        if not np.isfinite(array).all():
            raise QuantizationError(f"{name}: holds NaN or infinity.")
        sizes = np.abs(array[array != 0])
        largest = float(sizes.max(initial=0.0))
        facts = ml_dtypes.finfo(self.dtype)
        small = float(np.count_nonzero(sizes < float(facts.smallest_normal)) / sizes.size) if sizes.size else 0.0
        kept = None
        if largest > float(facts.max):
            kept = f"{largest:.6g} is larger than {float(facts.max):.6g}, the largest number of {self.kind}"
        elif not used:
            kept = "its layers are kept"
        return HalfTensor(name, largest, small, kept)

    def _store(self, value: ir.Value, array: NDArray[np.float32], users: Collection[tuple[ir.Node, int]]) -> None:
        name = value.name or ""
        others = len(list(value.uses())) > len(users)
        half = ir.Value(
            name=free_name(self.graph, f"{name}.{self.kind}"),
            shape=value.shape,
            type=ir.TensorType(self.type),
            const_value=ir.tensor(array.astype(self.dtype)),
        )
        if not others:
            del self.graph.initializers[name]
            half.name = name if self.mode == "compute" else half.name
        self.graph.register_initializer(half)
        source = half
        if self.mode == "storage":
            source = self._cast(half, ir.DataType.FLOAT, f"{name}.float")
        for node, index in users:
            node.replace_input_with(index, source)

    def _compute(self, inputs: list[ir.Value], casts: dict[tuple[ir.Value, ir.DataType], ir.Value]) -> None:
        floats = set(inputs)
        for node in self.graph:
            for value in node.outputs:
                if value.dtype in (ir.DataType.FLOAT, None) and not is_op(node, "Shape", "Size"):
                    floats.add(value)
        for node in list(self.graph):
            if node in self.kept:
                for index, value in enumerate(node.inputs):
                    if value in floats and value not in inputs and (value.producer() not in self.kept):
                        node.replace_input_with(index, self._shared(value, ir.DataType.FLOAT, casts))
                continue
            for index, value in enumerate(node.inputs):
                still_float = value in inputs or (value is not None and value.producer() in self.kept)
                if value is None or value not in floats or still_float != self._admits(node, index):
                    continue
                node.replace_input_with(
                    index, self._shared(value, self.type if still_float else ir.DataType.FLOAT, casts)
                )
            for attribute in _TYPE_ATTRIBUTES:
                if attribute in node.attributes and node.attributes[attribute].as_int() == ir.DataType.FLOAT.value:
                    node.attributes[attribute] = ir.AttrInt64(attribute, self.type.value)
            for value in node.outputs:
                if value in floats:
                    value.type = ir.TensorType(self.type)
        for index, value in enumerate(self.graph.outputs):
            producer = value.producer()
            if value in floats and producer is not None and producer not in self.kept:
                name = value.name or ""
                value.name = free_name(self.graph, f"{name}.{self.kind}")
                self.graph.outputs[index] = self._cast(value, ir.DataType.FLOAT, name)

    def _shared(
        self, value: ir.Value, kind: ir.DataType, casts: dict[tuple[ir.Value, ir.DataType], ir.Value]
    ) -> ir.Value:
        if (value, kind) not in casts:
            casts[value, kind] = self._cast(value, kind, free_name(self.graph, f"{value.name}.{kind.name.lower()}"))
        return casts[value, kind]

    def _cast(self, value: ir.Value, kind: ir.DataType, name: str) -> ir.Value:
        node = ir.node("Cast", [value], {"to": kind.value}, name=f"{name}.Cast")
        told, producer = node.outputs[0], value.producer()
        told.name, told.shape, told.type = name, value.shape, ir.TensorType(kind)
        if producer is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.insert_after(producer, node)
        return told
