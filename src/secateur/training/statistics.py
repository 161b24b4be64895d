"""What data says about every layer, gathered while images stream through the network, one batch at a time.

    activations    a few forward passes;             x of every column, y behind the norm that follows
    gradients      one backward pass for each image, because squares of single gradients are wanted

The network is in evaluation mode and comes back as it was. Gradients are those of the cross-entropy with the labels.
Where the data has another number of classes than the network has outputs, its labels mean nothing here and the
network's own predictions take their place.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from secateur.progress import say, track
from secateur.sparsity import Layer, filters_first, layers_of, stored_weight, unwrapped
from secateur.sparsity.criterion import Need
from secateur.sparsity.layers import weighted_modules
from secateur.sparsity.norms import following_norms, norm_modules
from secateur.sparsity.statistics import ActivationStatistics, GradientStatistics, LayerStatistics
from secateur.training import distributed
from secateur.training.placement import moved, placed
from secateur.zoo.image_data import ImageData
from secateur.zoo.loader import Loader, loader
from secateur.zoo.preprocessing import Preprocessing

IMAGES = 512


def gather_statistics(
    model: nn.Module,
    data: ImageData,
    preprocessing: Preprocessing,
    needs: Iterable[Need],
    *,
    images: int = IMAGES,
    batch_size: int = 64,
    workers: int = 0,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> dict[str, LayerStatistics]:
    """Layer name -> what the training images say about it; on the CPU, filter first.

    needs     what the criterion needs, `criteria[name].needs`; its norms cost nothing and are found elsewhere
    images    so many training images, evenly spread; every process takes its share, all get the same result
    seed      the order of the images
    device    by default a GPU if there is one
    returns   a layer that the network never calls is missing
    raises    DataError  no training images
    """
    wanted = set(needs)
    distributed.start()
    where = torch.device(device) if device is not None else distributed.device()
    network = unwrapped(model)

    def batches(size: int) -> Loader:
        return loader(
            data,
            "train",
            preprocessing,
            batch_size=size,
            seed=seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            workers=workers,
            limit=images,
        )

    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with placed((network,), where, preprocessing.input_size) as layout:
            activations = _activations(network, batches(batch_size), where, layout) if "activations" in wanted else {}
            gradients = _gradients(network, batches(1), where, layout) if "gradients" in wanted else {}
    finally:
        for module, mode in modes.items():
            module.training = mode
    counted = int(distributed.sum_over_group(torch.tensor(float(batches(1).images), device=where)))
    return {
        layer.name: LayerStatistics(counted, activations.get(layer.name), gradients.get(layer.name))
        for layer in layers_of(network)
        if layer.name in activations or layer.name in gradients
    }


# ---------------------------------------------------------------------------------------------------- activations


class _Columns:
    """Sums over what one layer gets and gives."""

    def __init__(self, layer: Layer, module: nn.Module, by_norm: bool) -> None:
        self._layer, self._module = layer, module
        self._axis = -1 if layer.kind == "linear" and not by_norm else 1
        self._in: list[Tensor] = []
        self._out: list[Tensor] = []

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        _add(self._in, _squares(self._layer, self._module, cast(Tensor, inputs[0])))

    def leave(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        by_channel = output.detach().movedim(self._axis, 0).flatten(1)
        places = torch.full((1,), by_channel.shape[1], dtype=torch.float64, device=output.device)
        positive = by_channel.clamp(min=0)
        _add(self._out, [(by_channel <= 0).sum(1, dtype=torch.float64), positive.sum(1, dtype=torch.float64), places])

    def result(self) -> ActivationStatistics | None:
        """Means, or None for a layer that was never called."""
        if not self._in or not self._out:
            return None
        square, columns = (distributed.sum_over_group(value).cpu() for value in self._in)
        zeros, positive, places = (distributed.sum_over_group(value).cpu() for value in self._out)
        return ActivationStatistics(square / columns, zeros / places, positive / places)


def _activations(
    network: nn.Module, batches: Loader, device: torch.device, layout: torch.memory_format
) -> dict[str, ActivationStatistics]:
    modules, norms = weighted_modules(network), norm_modules(network)
    follows = following_norms(network)
    found = {layer.name: _Columns(layer, modules[layer.name], layer.name in follows) for layer in layers_of(network)}
    names = {name: layer.name for layer in layers_of(network) for name in (layer.name, *layer.shared)}
    handles = [module.register_forward_pre_hook(found[names[name]].enter) for name, module in modules.items()]
    for name, module in modules.items():
        behind = norms[follows[names[name]]] if names[name] in follows else module
        handles.append(behind.register_forward_hook(found[names[name]].leave))
    try:
        with torch.no_grad(), parametrize.cached(), track(len(batches), "statistics of activations") as progress:
            for images, labels in batches:
                network(moved(images, labels, device, layout)[0])
                progress.advance()
    finally:
        for handle in handles:
            handle.remove()
    results = {name: columns.result() for name, columns in found.items()}
    return {name: result for name, result in results.items() if result is not None}


def _add(sums: list[Tensor], values: Sequence[Tensor]) -> None:
    if not sums:
        sums.extend(values)
        return
    for total, value in zip(sums, values, strict=True):
        total += value


def _squares(layer: Layer, module: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Sum of x^2 over columns for every (input channel, kernel position), and the number of columns."""
    square = inputs.detach().double().square()
    kernel = layer.shape[2:]
    if not isinstance(module, _ConvNd):
        flat = square.flatten(0, -2)
        return [flat.sum(0), _number(len(flat), square)]
    by_channel = square.movedim(1, 0)
    if isinstance(module, _ConvTransposeNd):
        # Every input pixel meets every kernel position, but for the few that fall outside of the output.
        sums = by_channel.flatten(1).sum(1)
        return [
            sums.reshape(-1, *(1 for _ in kernel)).expand(-1, *kernel).clone(),
            _number(by_channel[0].numel(), square),
        ]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(square, module._reversed_padding_repeated_twice, mode=mode).movedim(1, 0)
    spans = [
        (extent - dilation * (side - 1) - 1) // stride + 1
        for extent, side, stride, dilation in zip(padded.shape[2:], kernel, module.stride, module.dilation, strict=True)
    ]
    sums = torch.empty((len(padded), *kernel), dtype=torch.float64, device=inputs.device)
    for place in product(*(range(side) for side in kernel)):
        window = tuple(
            slice(at * dilation, at * dilation + (span - 1) * stride + 1, stride)
            for at, span, stride, dilation in zip(place, spans, module.stride, module.dilation, strict=True)
        )
        sums[(slice(None), *place)] = padded[(slice(None), slice(None), *window)].flatten(1).sum(1)
    columns = padded.shape[1]
    for span in spans:
        columns *= span
    return [sums, _number(columns, square)]


def _number(value: int, like: Tensor) -> Tensor:
    return torch.full((1,), float(value), dtype=torch.float64, device=like.device)


# ------------------------------------------------------------------------------------------------------ gradients


def _gradients(
    network: nn.Module, images: Loader, device: torch.device, layout: torch.memory_format
) -> dict[str, GradientStatistics]:
    modules, classes = weighted_modules(network), len(images.data.classes)
    layers = layers_of(network)
    weights = [stored_weight(modules[layer.name]) for layer in layers]
    sums: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    count = torch.zeros(1, dtype=torch.float64, device=device)
    with _only_these_learn(network, weights), track(len(images), "statistics of gradients") as progress:
        for image, label in images:
            inputs, target = moved(image, label, device, layout)
            outputs = network(inputs).float()
            if outputs.shape[1] != classes:
                target = outputs.argmax(1)
                if not count:
                    say(
                        f"gradients are those of the network's own predictions: it has {outputs.shape[1]} outputs, "
                        f"the images {classes} classes"
                    )
            loss = F.cross_entropy(outputs, target)
            found = torch.autograd.grad(loss, weights, allow_unused=True)
            for layer, weight, gradient in zip(layers, weights, found, strict=True):
                if gradient is not None:
                    _add(sums[layer.name], _moments(layer, weight.detach(), gradient))
            count += len(image)
            progress.advance()
    total = distributed.sum_over_group(count).cpu()
    return {
        name: GradientStatistics(*((distributed.sum_over_group(value).cpu() / total) for value in values))
        for name, values in sums.items()
        if values
    }


def _moments(layer: Layer, weight: Tensor, gradient: Tensor) -> list[Tensor]:
    weight = filters_first(weight, layer.kind, layer.groups).double()
    gradient = filters_first(gradient, layer.kind, layer.groups).double()
    change = (weight * gradient).flatten(1).sum(1)
    return [gradient, gradient.square(), change.square(), change.abs()]


@contextmanager
def _only_these_learn(network: nn.Module, weights: Sequence[Tensor]) -> Generator[None]:
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    chosen = {id(weight) for weight in weights}
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in chosen and parameter.is_floating_point())
    try:
        yield
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)
