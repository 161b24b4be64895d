"""What goes into a model and what comes out, and whether arrays fit.

Shapes as the file declares them: a number, or an open side with its name ("batch") or without one (None).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper

from secateur.errors import EngineError, ModelError
from secateur.graph.ir import Graph, TensorType

# Input -> shape, in the order of the inputs: what a plan is made for.
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Argument:
    """An input or output.

    shape    None stands for a side that the model leaves open
    sides    the same with the names of open sides where they have one
    dtype    as numpy writes it: float32, int64, ...; "unknown" for what is no tensor
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    sides: tuple[int | str | None, ...] = ()

    @property
    def numpy(self) -> np.dtype[Any]:
        """Type of the elements."""
        return TensorType((), self.dtype).numpy

    def completed(self, graph: Graph) -> "Argument":
        """With the shape and type of a graph where the file declares none, and with its numbers for wrong ones.

        Files say wrong numbers where a tool wrote what ONNX's shape inference says of a Resize or a pool.
        """
        if self.name not in graph.types:
            return self
        kind = graph.types[self.name]
        if not self.sides:
            return replace(self, shape=kind.shape, dtype=kind.dtype, sides=kind.shape)
        if len(self.sides) != len(kind.shape):
            return self
        pairs = list(zip(self.sides, kind.shape, strict=True))
        shape = tuple(found if isinstance(side, int) else None for side, found in pairs)
        return replace(
            self, shape=shape, sides=tuple(found if isinstance(side, int) else side for side, found in pairs)
        )

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"{self.name} {self.dtype} ({sides})"


@dataclass(frozen=True)
class ModelMetadata:
    """What a file says about itself; the fields are those of onnxruntime.ModelMetadata."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    graph_description: str
    version: int
    custom_metadata_map: Mapping[str, str]


# What ONNX Runtime says where the file names no version.
_NO_VERSION = 2**63 - 1


def metadata(model: onnx.ModelProto) -> ModelMetadata:
    """What a model says about itself."""
    return ModelMetadata(
        model.producer_name,
        model.graph.name,
        model.domain,
        model.doc_string,
        model.graph.doc_string,
        model.model_version if model.HasField("model_version") else _NO_VERSION,
        {entry.key: entry.value for entry in model.metadata_props},
    )


def signature(model: onnx.ModelProto) -> tuple[tuple[Argument, ...], tuple[Argument, ...]]:
    """Inputs (without those that are constants) and outputs of a model."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    given = [value for value in model.graph.input if value.name not in constants]
    for value in given:
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"input '{value.name}' declares no shape; the engine needs its number of sides.")
    inputs = tuple(_argument(value) for value in given)
    return inputs, tuple(_argument(value) for value in model.graph.output)


def closed(inputs: Sequence[Argument], batch: int) -> Shapes | None:
    """Shapes with `batch` in place of open first sides, or None where other sides are open too."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for argument in inputs:
        first, rest = argument.shape[:1], argument.shape[1:]
        sides = [batch if side is None else side for side in first]
        for side in rest:
            if side is None:
                return None
            sides.append(side)
        shapes.append((argument.name, tuple(sides)))
    return tuple(shapes)


def checked(inputs: Sequence[Argument], feeds: Mapping[str, object]) -> Shapes:
    """The shapes of arrays that fit the inputs. raises EngineError with what would fit."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    named: dict[str, tuple[str, int]] = {}
    for argument in inputs:
        given = feeds.get(argument.name)
        if given is None:
            raise EngineError(f"Input '{argument.name}' is missing: {_wanted(argument)}.")
        if not isinstance(given, np.ndarray):
            raise EngineError(f"Input '{argument.name}' is a {type(given).__name__}: {_wanted(argument)}, from numpy.")
        array = cast("np.ndarray", given)
        fits = len(array.shape) == len(argument.shape) and all(
            side == wanted or (wanted is None and side > 0)
            for side, wanted in zip(array.shape, argument.shape, strict=True)
        )
        if not array.dtype.isnative:
            raise EngineError(
                f"Input '{argument.name}' is in foreign byte order; convert it with .astype('{argument.dtype}')."
            )
        if not fits or array.dtype != argument.numpy:
            remedy = f"; convert it with .astype('{argument.dtype}')" if fits else ""
            raise EngineError(
                f"Input '{argument.name}' is {array.dtype.name} {array.shape}: {_wanted(argument)}{remedy}."
            )
        for side, size in zip(argument.sides, array.shape, strict=True):
            first, seen = named.setdefault(side, (argument.name, size)) if isinstance(side, str) else ("", size)
            if size != seen:
                raise EngineError(
                    f"Inputs '{first}' and '{argument.name}' have a side '{side}' in common, which is {seen} in one "
                    f"and {size} in the other."
                )
        shapes.append((argument.name, array.shape))
    if len(feeds) > len(inputs):
        known = [argument.name for argument in inputs]
        unknown = next(name for name in feeds if name not in known)
        raise EngineError(f"The model has no input '{unknown}'; its inputs are {', '.join(sorted(known))}.")
    return tuple(shapes)


def _wanted(argument: Argument) -> str:
    sides = ", ".join("any" if side is None else str(side) for side in argument.shape)
    return f"it must be an array of {argument.dtype} of shape ({sides})"


def _argument(value: onnx.ValueInfoProto) -> Argument:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Argument(value.name, (), "unknown")
    try:
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except (KeyError, ValueError) as error:
        raise ModelError(f"'{value.name}' has an element type that ONNX does not know: {kind.elem_type}.") from error
    sides = tuple(_side(side) for side in kind.shape.dim)
    return Argument(value.name, tuple(side if isinstance(side, int) else None for side in sides), dtype, sides)


def _side(side: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if side.HasField("dim_value") and side.dim_value >= 0:
        return side.dim_value
    return side.dim_param or None
