"""What allocations ask about a torch network: weights, scores of groups, and where its layers lie in depth."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

from torch import Tensor, nn

from secateur.graph.census import Census
from secateur.sparsity.census import census
from secateur.sparsity.layers import Layer, filters_first, layers_of, stored_weight, weighted_modules
from secateur.sparsity.pattern import Pattern


class NetworkFacts:
    """Facts about `model`, looked up when an allocation first asks."""

    def __init__(self, model: nn.Module, pattern: Pattern, input_shape: Sequence[int] | None = None) -> None:
        """input_shape: (channels, height, width) of one image; by default what the network says."""
        self._model, self._pattern, self._input_shape = model, pattern, input_shape

    @cached_property
    def _layers(self) -> dict[str, tuple[Layer, nn.Module]]:
        modules = weighted_modules(self._model)
        return {layer.name: (layer, modules[layer.name]) for layer in layers_of(self._model)}

    def weight(self, name: str) -> Tensor:
        """float32 on the CPU, filter first, masks left out."""
        layer, module = self._layers[name]
        return filters_first(stored_weight(module).detach(), layer.kind, layer.groups).float().cpu()

    def group_scores(self, name: str, scores: Tensor) -> Tensor:
        """One score per group of the pattern: the mean over its weights, which `scores` has filter first."""
        return self._pattern.group_scores(scores, self._layers[name][0].groups)

    def halvings(self) -> Mapping[str, int]:
        """Convolution -> ceil(log2(network input / layer input)), by the last side; one image is run to know.

        raises    ModelError  the network does not run on an image of its input shape
        """
        return self._halvings

    @cached_property
    def _halvings(self) -> dict[str, int]:
        return halvings_in(census(self._model, self._input_shape))


def halvings_in(counts: Census) -> dict[str, int]:
    """Convolution -> ceil(log2(network input / layer input)), by the last side."""
    full = counts.input_shape[-1]
    return {
        layer.name: max(math.ceil(math.log2(full / layer.input_shape[-1])), 0)
        for layer in counts.layers
        if layer.kind != "linear" and len(layer.input_shape) > 1
    }
