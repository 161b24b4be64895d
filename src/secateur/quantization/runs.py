"""A float model run by ONNX Runtime, and what lies inside it: values of the graph, in groups of bounded memory."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from secateur.errors import ModelError, QuantizationError

Array = NDArray[Any]
# Values of the graph that are held at once.
HELD_BYTES = 256 << 20


class Runs:
    """A model of one image input, ready to run.

    outputs      values that are given beside the model's own; their names
    optimized    let ONNX Runtime rewrite the graph: what is deployed. Without, every operator is computed as written
    threads      0 lets ONNX Runtime decide
    raises       ModelError, QuantizationError  a model that ONNX Runtime cannot load
    """

    def __init__(
        self, model: onnx.ModelProto, outputs: Sequence[str] = (), *, optimized: bool = True, threads: int = 0
    ) -> None:
        self.input, self.batch, self.dtype = _input_of(model)
        self._own = [value.name for value in model.graph.output]
        self.names = list(dict.fromkeys([*self._own, *outputs]))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        data = _with_outputs(model, [name for name in self.names if name != self.input]).SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no public base class
            raise QuantizationError(f"ONNX Runtime cannot load the model: {first_line(error)}.") from error

    def __call__(self, images: Array) -> dict[str, Array]:
        """The model's outputs and the values that were asked for, of these images."""
        pixels = np.ascontiguousarray(images, self.dtype)
        chunk = self.batch or len(pixels)
        found: dict[str, list[Array]] = {name: [] for name in self.names}
        for start in range(0, len(pixels), max(chunk, 1)):
            part = pixels[start : start + chunk]
            missing = chunk - len(part)
            # A file with a fixed batch gets copies of the last image, whose values are cut off again.
            feed = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            for name, value in self._run(feed).items():
                found[name].append(value[: len(value) * len(part) // chunk] if value.ndim and missing else value)
        return {name: np.concatenate(parts) if len(parts) > 1 else parts[0] for name, parts in found.items()}

    def logits(self, images: Array) -> Array:
        """The model's first output."""
        return self(images)[self._own[0]]

    def _run(self, feed: Array) -> dict[str, Array]:
        wanted = [name for name in self.names if name != self.input]
        try:
            values = dict(zip(wanted, self._session.run(wanted, {self.input: feed}), strict=True))
        except Exception as error:  # its exceptions share no public base class
            raise QuantizationError(f"ONNX Runtime cannot run the model: {first_line(error)}.") from error
        return {name: np.asarray(values[name]) if name in values else feed for name in self.names}


def integer_operators(model: onnx.ModelProto) -> dict[str, int]:
    """Kinds of operators that ONNX Runtime computes the model with once it has optimized it -> how many of each.

    raises    QuantizationError  a model that ONNX Runtime cannot load
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no public base class
            raise QuantizationError(f"ONNX Runtime cannot load the model: {first_line(error)}.") from error
        kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    return dict(sorted(kinds.items()))


def in_groups(model: onnx.ModelProto, values: Sequence[Sequence[str]], image: Array) -> tuple[list[list[int]], int]:
    """Indices of sets of values that are fetched together, and of how many images at once, within HELD_BYTES.

    values    sets of names that must be seen together
    image     one image, to measure with
    """
    names = list(dict.fromkeys(name for group in values for name in group))
    runs = Runs(model, names)
    images = np.repeat(image, max(runs.batch, 1), axis=0) if runs.batch else image
    found = runs(images)
    sizes = {name: found[name].nbytes / len(images) for name in names}
    groups: list[list[int]] = []
    room = 0.0
    for index, group in enumerate(values):
        needed = sum(sizes[name] for name in group)
        if not groups or needed > room:
            groups.append([])
            room = HELD_BYTES
        groups[-1].append(index)
        room -= needed
    largest = max((sum(sizes[name] for index in group for name in values[index]) for group in groups), default=0.0)
    return groups, max(int(HELD_BYTES / max(largest, 1.0)), 1)


def images_of(batches: Iterable[Any]) -> Iterator[Array]:
    """Batches as float32 arrays; labels beside the images are left out."""
    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        if hasattr(images, "detach"):
            images = images.detach().cpu().numpy()
        yield np.ascontiguousarray(images, dtype=np.float32)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with these outputs; its initializers are shared, not copied, where protobuf can."""
    own = {value.name: value for value in model.graph.output}
    if list(own) == list(names):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(own.get(name, onnx.ValueInfoProto(name=name)) for name in names)
    return copy


def _input_of(model: onnx.ModelProto) -> tuple[str, int, np.dtype[Any]]:
    """Name, batch (0 where it is open) and type of the image input. raises ModelError."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs; a network of one image input is needed.")
    kind = inputs[0].type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else 0 for side in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type or onnx.TensorProto.FLOAT)
    return inputs[0].name, max(sides[0], 0) if sides else 0, dtype
