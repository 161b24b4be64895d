"""Where in a torch network the values and weights of its exported file are: there, where the numbers are the same.

A copy of the network gets random weights, so that no two of its values are alike, and is exported. Both are run on the
same two random images, and every value of the file belongs to the first place of the network, in order of execution,
that holds the same numbers up to 1e-3 of the largest. So a norm that the export folds into a convolution, an
activation that it fuses, or a layer that it removes needs no rule here: what the file no longer has finds no place.

An initializer of the file is the weight of the layer that it equals; where it is that times one factor for each
filter, and the factors are the scale of a norm, gamma / sqrt(var + eps), that norm is folded into the layer.

Our own design.
"""

import copy
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from secateur.errors import QuantizationError
from secateur.export.onnx_file import INPUT_NAME, export_onnx, folded_copy
from secateur.quantization.prepare import prepared
from secateur.quantization.training.forwards import Forward, Place, forwards_of, insert_
from secateur.sparsity.layers import weighted_modules
from secateur.sparsity.norms import norm_modules

TOLERANCE = 1e-3
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class WeightPlace:
    """A weight of the file and the layer whose it is.

    norm            name of the norm that the export folds into it
    filter_axis     of the initializer
    torch_axis      of the layer's weight, likewise the axis of the filters
    """

    initializer: str
    layer: str
    norm: str | None
    filter_axis: int
    torch_axis: int


@dataclass(frozen=True, eq=False)
class Map:
    """A network and its exported file, side by side.

    file        of the random copy, prepared: names and structure are those of every export of the network
    values      name of a value of the file -> its place; what has none is missing
    weights     name of an initializer -> its layer
    forwards    of the network's modules
    closed      module -> why torch.fx cannot trace it
    """

    file: onnx.ModelProto
    values: Mapping[str, Place]
    weights: Mapping[str, WeightPlace]
    forwards: Mapping[str, Forward]
    closed: Mapping[str, str]


def map_of(model: nn.Module, input_size: Sequence[int]) -> Map:
    """Place by place, what of `model` is what of its exported file. raises ExportError, QuantizationError."""
    twin = folded_copy(model)
    images = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    _randomize_(twin, images)
    with tempfile.TemporaryDirectory() as folder:
        file = prepared(onnx.load(export_onnx(twin, Path(folder) / "twin.onnx", input_size)))
    forwards, closed = forwards_of(twin)
    wanted = twin(images)
    recorded = _recorded(twin, forwards, images, wanted)
    found: dict[str, Place] = {}
    for name, value in _values_of(file, images.numpy()):
        place = _first_equal(recorded, value)
        if place is not None:
            found[name] = place
    return Map(file, found, _weights_of(file, twin), forwards, closed)


@torch.no_grad()
def _randomize_(network: nn.Module, images: Tensor) -> None:
    """Weights without any symmetry, and statistics of norms that fit them, so that no value dies or explodes."""
    random = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.copy_(torch.rand(parameter.shape, generator=random) * 0.5 + 0.25)
    for layer in weighted_modules(network).values():
        weight = cast(Tensor, layer.weight)
        spread = (2 / max(weight[0].numel(), 1)) ** 0.5
        weight.copy_(torch.randn(weight.shape, generator=random) * spread)
    for norm in norm_modules(network).values():
        norm.momentum = 1.0
        norm.train()
        if norm.weight is not None:
            norm.weight.copy_(torch.rand(norm.weight.shape, generator=random) + 0.5)
            norm.bias.copy_(torch.randn(norm.bias.shape, generator=random) * 0.3)
    network(images)
    network.eval()


def _recorded(
    network: nn.Module, forwards: Mapping[str, Forward], images: Tensor, wanted: Any
) -> list[tuple[Place, Floats]]:
    """Every value that a traced module computes, in order of execution."""
    records: list[tuple[Place, Floats]] = []

    def recorder(place: Place) -> Callable[[Any], Any]:
        def record(value: Any) -> Any:
            if isinstance(value, Tensor) and value.is_floating_point():
                # A copy: what works in place comes later.
                records.append((place, value.detach().numpy().reshape(-1).copy()))
            return value

        return record

    places = [place for module, forward in forwards.items() for place in forward.places(module)]
    insert_(network, forwards, {place: recorder(place) for place in places})
    with torch.no_grad():
        if not torch.equal(network(images), wanted):
            raise QuantizationError(
                f"the steps that torch.fx found in {type(network).__name__} do not compute what it computes, so there "
                f"is no place where its activations could be rounded."
            )
    return records


def _values_of(file: onnx.ModelProto, images: Floats) -> Iterable[tuple[str, Floats]]:
    """Every floating-point value of a file on these images, in order of execution, its input first."""
    opened = copy.deepcopy(file)
    outputs = {value.name for value in opened.graph.output}
    names = [name for node in opened.graph.node for name in node.output if name]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(names, {INPUT_NAME: images})
    yield INPUT_NAME, images
    for name, value in zip(names, values, strict=True):
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            yield name, value


def _first_equal(recorded: Sequence[tuple[Place, Floats]], value: Floats) -> Place | None:
    # In order of storage: a value that was only reshaped is the same one.
    flat = value.reshape(-1)
    near = TOLERANCE * float(np.abs(flat).max(initial=0.0))
    # A few numbers tell most values apart; all of them are compared only where these agree.
    few = slice(None, None, max(value.size // 64, 1))
    for place, found in recorded:
        if (
            found.size == flat.size
            and (np.abs(found[few] - flat[few]) <= near).all()
            and (np.abs(found - flat) <= near).all()
        ):
            return place
    return None


def _weights_of(file: onnx.ModelProto, network: nn.Module) -> dict[str, WeightPlace]:
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    scales: dict[str, Floats] = {}
    for name, norm in norm_modules(network).items():
        scale = torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
        scales[name] = (scale if norm.weight is None else scale * norm.weight).detach().numpy()
    found: dict[str, WeightPlace] = {}
    for layer, module in weighted_modules(network).items():
        weight = cast(Tensor, module.weight).detach().numpy()
        transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)  # pyright: ignore[reportPrivateUsage]
        if transposed and module.groups > 1:
            continue
        axis = int(transposed)
        for name, array in arrays.items():
            if name in found or array.dtype != np.float32 or array.size != weight.size or array.size == 0:
                continue
            if array.shape == weight.shape:
                norm = _folded_norm(np.moveaxis(array, axis, 0), np.moveaxis(weight, axis, 0), scales)
                if norm is not _DIFFERENT:
                    found[name] = WeightPlace(name, layer, cast(str | None, norm), axis, axis)
                    break
            elif array.ndim == 2 and array.shape == weight.shape[::-1] and np.array_equal(array.T, weight):
                found[name] = WeightPlace(name, layer, None, 1, 0)
                break
    return found


_DIFFERENT = object()


def _folded_norm(array: Floats, weight: Floats, scales: Mapping[str, Floats]) -> object:
    """The norm by whose scale `array` is `weight`, None where they are the same, otherwise _DIFFERENT."""
    rows, plain = array.reshape(len(array), -1), weight.reshape(len(weight), -1)
    if np.array_equal(rows, plain):
        return None
    factors = (rows * plain).sum(1) / (plain * plain).sum(1)
    if not np.allclose(rows, factors[:, None] * plain, rtol=TOLERANCE, atol=TOLERANCE * float(np.abs(rows).max())):
        return _DIFFERENT
    for name, scale in scales.items():
        if scale.shape == factors.shape and np.allclose(scale, factors, rtol=TOLERANCE):
            return name
    return _DIFFERENT
