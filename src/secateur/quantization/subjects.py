"""A float ONNX file as a subject of reconstruction, and its layers beside the tensors that a scale table names."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.errors import QuantizationError
from secateur.graph.constants import Constants
from secateur.graph.shapes import infer_shapes
from secateur.posttraining.onnx_layers import OnnxLayers
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.quantization.runs import images_of
from secateur.zoo import Preprocessing

# The same prepared images each time that it is called: (images, channels, height, width) float32, or pairs of them and
# labels, batch by batch.
Batches = Callable[[], Iterable[Any]]


@dataclass(frozen=True)
class StoredLayer:
    """A layer of a file.

    name      of the census
    node      name of the operator, its output's where it has none; of several that use the weight, the first
    others    names of further operators that use the weight
    output    the value that the operator writes
    tensor    the initializer that holds the weight
    axis      of that tensor that counts the layer's outputs
    kind      conv, depthwise, conv_transpose or linear
    """

    name: str
    node: str
    output: str
    tensor: str
    axis: int
    kind: str
    others: tuple[str, ...] = ()


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that may be changed."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def size_of(batches: Batches) -> tuple[int, int, int]:
    """(channels, height, width) of the images. raises QuantizationError when there are none."""
    first = next(images_of(batches()), None)
    if first is None or not len(first) or first.ndim != 4:
        raise QuantizationError("calibration needs at least one image, in batches (images, channels, height, width).")
    return first.shape[1], first.shape[2], first.shape[3]


def subject_of(model: onnx.ModelProto, batches: Batches) -> OnnxSubject:
    """The model behind the interface of reconstruction; a copy. raises ModelError, QuantizationError."""
    channels, height, width = size_of(batches)
    # The images come prepared: of the preprocessing only the size counts.
    none = Preprocessing((channels, height, width), (0.0,) * channels, (1.0,) * channels)
    return OnnxSubject(model, none)


def as_tensors(batches: Batches) -> Callable[[], Iterator[Tensor]]:
    """The same images as torch tensors."""

    def tensors() -> Iterator[Tensor]:
        for images in images_of(batches()):
            yield torch.from_numpy(images)

    return tensors


def stored_layers(model: onnx.ModelProto, size: tuple[int, int, int]) -> dict[str, StoredLayer]:
    """Layers whose weight is an initializer, by name."""
    layers = OnnxLayers(model, infer_shapes(model, size))
    constants, tensors = Constants(model.graph), {tensor.name for tensor in model.graph.initializer}
    found: dict[str, StoredLayer] = {}
    for name, layer in layers.layers.items():
        use = layer.uses[0]
        tensor = use.node.input[use.weight]
        if tensor not in tensors or constants.root(tensor) != tensor:
            continue
        kind = layer.layer.kind
        axis = 1 if kind == "conv_transpose" or (kind == "linear" and use.swapped) else 0
        node, *others = (use.node.name or use.node.output[0] for use in layer.uses)
        found[name] = StoredLayer(name, node, use.node.output[0], tensor, axis, kind, tuple(others))
    return found


def relative_error(wanted: NDArray[Any], got: NDArray[Any]) -> float:
    """|got - wanted| / |wanted|, Euclidean; 0 for two tensors of zeros."""
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    whole, lost = float(np.linalg.norm(wanted)), float(np.linalg.norm(got - wanted))
    return lost / whole if whole else (0.0 if lost == 0 else float("inf"))
