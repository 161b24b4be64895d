"""Counting a torch network: run it once on one image and see how often every weight is applied.

Modules are followed by hooks. Weights that a network uses without calling their module (attention) are
recognised by their memory in the products that torch computes; a product of two activations is a dynamic one.
"""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.errors import ModelError
from secateur.graph.census import Census
from secateur.graph.layer_count import LayerCount
from secateur.graph.structure import StructureTable, structure_table
from secateur.graph.table import dims
from secateur.sparsity.layers import Layer, layers_of, stored_weight, unwrapped, weighted_modules

DEFAULT_INPUT = (3, 224, 224)


def census(model: nn.Module, input_shape: Sequence[int] | None = None) -> Census:
    """Weights, nonzeros, positions and MACs of every convolution and linear layer, for one image.

    input_shape    (channels, height, width); by default that of `model.preprocessing`, else 3x224x224
    returns        masked weights count as zeros; layers that share a tensor are one, positions added
    raises         ModelError  the network does not run on an image of that shape
    """
    network = unwrapped(model)
    shape = input_shape_of(network, input_shape)
    layers = layers_of(network)
    uses = {layer.name: _Use() for layer in layers}
    functional: dict[str, _Use] = {}
    with torch.no_grad(), evaluating(network), parametrize.cached():
        modules = weighted_modules(network)
        watch = _Watch(network, layers, modules, uses, functional)
        with watch.hooks(), watch:
            run_once(network, shape)
        counts = [_count(layer, modules[layer.name], uses[layer.name]) for layer in layers]
        parameters = dict(network.named_parameters())
        counts += [_count_functional(name, parameters[name], use) for name, use in functional.items()]
        held = {id(parameters[name]) for name in functional}
        held |= {id(stored_weight(modules[layer.name])) for layer in layers}
        other_zeros = sum(int((p == 0).sum()) for p in parameters.values() if id(p) not in held)
    return Census(
        layers=tuple(counts),
        input_shape=shape,
        parameters=sum(parameter.numel() for parameter in parameters.values()),
        dynamic_macs=watch.dynamic_macs,
        other_zeros=other_zeros,
    )


@torch.no_grad()
def structure(model: nn.Module) -> StructureTable:
    """The structure table of the network's weights, masks applied."""
    modules = weighted_modules(model)
    return structure_table({layer.name: _array(cast(Tensor, modules[layer.name].weight)) for layer in layers_of(model)})


@dataclass
class _Use:
    """How one weight tensor was used during the run."""

    macs: int = 0
    calls: int = 0
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()

    def add(self, macs: int, inputs: Tensor, outputs: Tensor) -> None:
        if not self.calls:
            self.input_shape, self.output_shape = tuple(inputs.shape[1:]), tuple(outputs.shape[1:])
        self.macs += macs
        self.calls += 1


class _Watch(TorchDispatchMode):
    """Attributes the work of one forward pass to weights: by module, or by the memory of an operand."""

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[Layer],
        modules: dict[str, nn.Module],
        uses: dict[str, _Use],
        functional: dict[str, _Use],
    ) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.dynamic_macs = 0
        self._inside = 0
        self._functional = functional
        self._names = {name: layer.name for layer in layers for name in (layer.name, *layer.shared)}
        self._modules, self._uses = modules, uses
        self._fixed = {_memory(tensor) for tensor in network.buffers()}
        self._parameters = {_memory(p): name for name, p in network.named_parameters()}
        # Masked weights are computed tensors; parametrize.cached keeps them at one place during the run.
        self._weights = {_memory(cast(Tensor, modules[layer.name].weight)): layer.name for layer in layers}

    @contextmanager
    def hooks(self) -> Generator[None]:
        handles = [
            handle
            for name, module in self._modules.items()
            for handle in (
                module.register_forward_pre_hook(self._enter),
                module.register_forward_hook(self._leave(self._names[name]), with_kwargs=True),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._inside += 1

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            self._inside -= 1
            inputs = cast(Tensor, args[0] if args else kwargs["input"])
            weight = cast(Tensor, module.weight)
            transposed = isinstance(module, _ConvNd) and module.transposed
            self._uses[name].add(_macs(weight, inputs, output, transposed), inputs, output)

        return hook

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._inside:
            self._product(func.overloadpacket.__name__, args, result)
        return result

    def _product(self, operation: str, args: Any, result: Any) -> None:
        if operation in ("mm", "bmm"):
            self._matrices(args[0], args[1], result)
        elif operation in ("addmm", "baddbmm"):
            self._matrices(args[1], args[2], result)
        elif operation == "convolution":
            inputs, weight, transposed = args[0], args[1], args[6]
            self._attribute((weight,), _macs(weight, inputs, result, transposed), inputs, result)
        elif operation.startswith("_scaled_dot_product"):
            query, key, value = args[:3]
            batch = math.prod(query.shape[:-1])
            self.dynamic_macs += batch * key.shape[-2] * (query.shape[-1] + value.shape[-1])

    def _matrices(self, left: Tensor, right: Tensor, result: Tensor) -> None:
        self._attribute((right, left), result.numel() * left.shape[-1], left, result)

    def _attribute(self, operands: tuple[Tensor, ...], macs: int, inputs: Tensor, result: Tensor) -> None:
        for operand in operands:
            place = _memory(operand)
            if place in self._weights:
                self._uses[self._weights[place]].add(macs, inputs, result)
                return
            if place in self._parameters:
                name = self._parameters[place]
                self._functional.setdefault(name, _Use()).add(macs, inputs, result)
                return
            if place in self._fixed:
                return
        self.dynamic_macs += macs


def _macs(weight: Tensor, inputs: Tensor, outputs: Tensor, transposed: bool) -> int:
    """Weights times positions; the stored weight's first dimension is that of the side that is walked."""
    walked = inputs if transposed else outputs
    return walked.numel() * math.prod(weight.shape[1:])


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def input_shape_of(network: nn.Module, given: Sequence[int] | None = None) -> tuple[int, ...]:
    """(channels, height, width): what is given, else that of `preprocessing`, else 3x224x224."""
    preprocessing = getattr(network, "preprocessing", None)
    shape = given if given is not None else getattr(preprocessing, "input_size", DEFAULT_INPUT)
    return tuple(int(side) for side in cast(Sequence[int], shape))


@contextmanager
def evaluating(network: nn.Module) -> Generator[None]:
    """Evaluation mode with attention computed openly; every module's own mode comes back afterwards."""
    modes = {module: module.training for module in network.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    network.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode


def run_once(network: nn.Module, shape: tuple[int, ...]) -> None:
    """One forward pass on an empty image. raises ModelError when the network does not take such an image."""
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    image = torch.zeros((1, *shape), dtype=like.dtype, device=like.device)
    try:
        network(image)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{type(network).__name__} does not run on one image of {dims(shape)}: {reason.rstrip('.')}. "
            f"Give the shape it expects as input_shape=(channels, height, width)."
        ) from error


def _count(layer: Layer, module: nn.Module, use: _Use) -> LayerCount:
    weight = cast(Tensor, module.weight)
    notes = [f"shares its weight with {', '.join(layer.shared)}"] if layer.shared else []
    if not use.calls:
        notes.append("not reached by this input, so it costs nothing")
    elif use.calls > 1:
        notes.append(f"applied {use.calls} times; positions are the sum")
    channels, zero_channels = _channels(weight, layer)
    return LayerCount(
        name=layer.name,
        kind=layer.kind,
        shape=layer.shape,
        groups=layer.groups,
        input_shape=use.input_shape,
        output_shape=use.output_shape,
        positions=use.macs // weight.numel() if weight.numel() else 0,
        weights=weight.numel(),
        nonzeros=int(torch.count_nonzero(weight)),
        channels=channels,
        zero_channels=zero_channels,
        attributes=_attributes(module),
        note="; ".join(notes),
    )


def _count_functional(name: str, weight: Tensor, use: _Use) -> LayerCount:
    layer = Layer(name, "linear", tuple(weight.shape))
    channels, zero_channels = _channels(weight, layer)
    return LayerCount(
        name=name,
        kind="linear",
        shape=layer.shape,
        groups=1,
        input_shape=use.input_shape,
        output_shape=use.output_shape,
        positions=use.macs // weight.numel(),
        weights=weight.numel(),
        nonzeros=int(torch.count_nonzero(weight)),
        channels=channels,
        zero_channels=zero_channels,
        note="a bare parameter, not a layer of its own",
    )


def _channels(weight: Tensor, layer: Layer) -> tuple[int, int]:
    """Output channels, and how many of them have only zero weights."""
    kept = (weight != 0).flatten(2) if weight.ndim > 2 else (weight != 0).unsqueeze(-1)
    if layer.kind == "conv_transpose":
        grouped = kept.reshape(layer.groups, -1, *kept.shape[1:])
        alive = grouped.any(dim=1).any(dim=-1)
    else:
        alive = kept.any(dim=2).any(dim=1)
    return alive.numel(), int((~alive).sum())


def _attributes(module: nn.Module) -> str:
    if not isinstance(module, _ConvNd):
        return ""
    parts = [f"k={dims(module.kernel_size)}", f"s={dims(module.stride)}"]
    parts.append(f"p={module.padding}" if isinstance(module.padding, str) else f"p={dims(module.padding)}")
    if any(step != 1 for step in module.dilation):
        parts.append(f"d={dims(module.dilation)}")
    if module.groups > 1:
        parts.append(f"g={module.groups}")
    return " ".join(parts)


def _array(weight: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return weight.detach().float().cpu().numpy()
