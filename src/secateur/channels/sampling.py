"""Layers of a pruned network beside the same layers of the dense one, at sampled positions, image by image.

    x = what the layer reads in the pruned network      y = what it gave in the dense one, without its bias
    at the end of a residual branch  y + (dense shortcut - pruned shortcut) / scale of the norm in between

Both networks see the same images at the same positions; only sums are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from secateur.channels.columns import columns_at, draw_places, outputs_at
from secateur.channels.layer_sums import LayerSums
from secateur.channels.shortcuts import Additions, outputs_of
from secateur.sparsity import Layer
from secateur.sparsity.draws import generator_for

# Behind a norm that all but removes a channel, nothing can be made good.
_LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class Pair:
    """One layer in both networks.

    modules      name -> (dense module, pruned module) of every module that has the layer's weight
    ends         (dense, pruned) module behind which a shortcut is added; None for other layers
    scale        (outputs,) of the norm that follows, ones without
    """

    layer: Layer
    modules: Mapping[str, tuple[nn.Module, nn.Module]]
    ends: tuple[nn.Module, nn.Module] | None
    scale: Tensor


class _Samples:
    """What one batch says of one layer."""

    def __init__(self, pair: Pair, positions: int, generator: Generator, sums: LayerSums) -> None:
        self.pair, self.positions, self.generator, self.sums = pair, positions, generator, sums
        self.places: dict[str, list[Tensor]] = {}
        self.dense: dict[str, list[Tensor]] = {}
        self.shortcuts: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.pruned: list[tuple[str, int, Tensor]] = []
        self.calls: dict[str, int] = {}

    def clear(self) -> None:
        for kept in (self.places, self.dense, self.pruned, self.calls, *self.shortcuts):
            kept.clear()

    def from_dense(self, name: str, output: Tensor) -> None:
        module = self.pair.modules[name][0]
        places = draw_places(output, module, self.positions, self.generator)
        self.places.setdefault(name, []).append(places)
        self.dense.setdefault(name, []).append(outputs_at(output, module, places))

    def from_pruned(self, name: str, inputs: Tensor, output: Tensor) -> None:
        call = self.calls.setdefault(name, 0)
        self.calls[name] += 1
        module = self.pair.modules[name][1]
        self.pruned.append((name, call, columns_at(inputs, output, module, self.places[name][call])))

    def shortcut(self, side: int, values: Tensor) -> None:
        """A shortcut is that of the layer's only call; a layer that is called again has none."""
        (name, places), *others = self.places.items()
        if not others and len(places) == 1:
            self.shortcuts[side].append(outputs_at(values, self.pair.modules[name][side], places[0]))

    def add_(self) -> None:
        """Everything that the batch said goes into the sums."""
        for name, call, columns in self.pruned:
            target = self.dense[name][call].double()
            bias = cast(Tensor | None, self.pair.modules[name][1].bias)
            if bias is not None:
                target = target - bias.double()
            if len(self.pruned) == 1 and len(self.shortcuts[0]) == len(self.shortcuts[1]) == 1:
                scale = self.pair.scale
                usable = scale.abs() > _LEAST_SCALE * scale.abs().max()
                lost = self.shortcuts[0][0].double() - self.shortcuts[1][0].double()
                target = target + torch.where(usable, lost / scale.where(usable, torch.ones_like(scale)), 0.0)
            self.sums.add_(columns, target)


def sums_of(
    networks: tuple[nn.Module, nn.Module],
    pairs: Sequence[Pair],
    batches: Iterable[Sequence[Tensor]],
    *,
    positions: int,
    seed: int,
    device: torch.device,
) -> dict[str, LayerSums]:
    """Layer -> its sums over all batches; a layer that the networks never call is missing.

    networks     dense, pruned; both in evaluation mode, on `device`
    batches      images first
    positions    of each image and call
    """
    samples = [_Samples(pair, positions, generator_for(seed, "positions", pair.layer.name), _empty(pair, device))
               for pair in pairs]  # fmt: skip
    seen: set[str] = set()
    with torch.no_grad():
        for images, *_ in batches:
            for each in samples:
                each.clear()
            moved = images.to(device)
            _run_dense(networks[0], samples, moved)
            _run_pruned(networks[1], samples, moved)
            for each in samples:
                each.add_()
                seen |= {each.pair.layer.name} if each.pruned else set()
    return {each.pair.layer.name: each.sums.to("cpu") for each in samples if each.pair.layer.name in seen}


def _empty(pair: Pair, device: torch.device) -> LayerSums:
    outputs, *rest = pair.layer.filter_shape
    groups = pair.layer.groups
    return LayerSums.empty(groups, outputs // groups, torch.Size(rest).numel(), device)


def _run_dense(network: nn.Module, samples: Sequence[_Samples], images: Tensor) -> None:
    modules: dict[str, nn.Module] = {}
    owner: dict[str, _Samples] = {}
    for each in samples:
        modules |= {name: pair[0] for name, pair in each.pair.modules.items()}
        owner |= dict.fromkeys(each.pair.modules, each)
    with outputs_of(modules, lambda name, output: owner[name].from_dense(name, output)), _Shortcuts(samples, 0):
        network(images)


def _run_pruned(network: nn.Module, samples: Sequence[_Samples], images: Tensor) -> None:
    def hook(each: _Samples, name: str) -> Any:
        return lambda _module, inputs, output: each.from_pruned(name, inputs[0], output)

    handles = [
        pair[1].register_forward_hook(hook(each, name)) for each in samples for name, pair in each.pair.modules.items()
    ]
    try:
        with parametrize.cached(), _Shortcuts(samples, 1):
            network(images)
    finally:
        for handle in handles:
            handle.remove()


class _Shortcuts:
    """Gives the samples what is added to the ends of their branches, in one run of one of the networks."""

    def __init__(self, samples: Sequence[_Samples], side: int) -> None:
        self._owner = {each.pair.layer.name: each for each in samples if each.pair.ends is not None}
        ends = {name: cast(Any, each.pair.ends)[side] for name, each in self._owner.items()}
        self._side = side
        self._made: dict[int, tuple[str, Tensor]] = {}
        self._outputs = outputs_of(ends, lambda name, output: self._made.update({id(output): (name, output)}))
        self._additions = Additions(self._seen)

    def _seen(self, first: Tensor, second: Tensor) -> None:
        for branch, shortcut in ((first, second), (second, first)):
            name, _ = self._made.get(id(branch), (None, None))
            if name is not None:
                self._owner[name].shortcut(self._side, shortcut)

    def __enter__(self) -> None:
        self._outputs.__enter__()
        self._additions.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._additions.__exit__(*error)
        self._outputs.__exit__(*error)
