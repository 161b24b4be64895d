"""A dense network beside the one that loses channels: scores of the channels of a group, and readers fitted.

    terms of the group   T = sum over its channels i of  b_i X_i W_i          b = 1 in the network as it is
    gram of the terms    (X^T X) * (W^T S W), summed over the columns of each two channels
    moment of the terms  (X^T Y) * W, likewise, less what the columns of other groups explain with the weights they have

S is the square of what the batch norm behind a layer multiplies each output with: errors count as they go on.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from secateur.channels.groups import ChannelGroup, Member, layer_of
from secateur.channels.lasso import Solver, lasso_scores
from secateur.channels.layer_sums import LayerSums, fitted
from secateur.channels.sampling import Pair, sums_of
from secateur.channels.selection import Scores
from secateur.channels.shortcuts import branch_ends
from secateur.channels.tensors import tensors_of
from secateur.channels.trace import plain_copy
from secateur.errors import SparsityError
from secateur.sparsity import Layer, as_stored, filters_first, layers_of, stored_weight, unwrapped
from secateur.sparsity.layers import weighted_modules
from secateur.sparsity.norms import following_norms, norm_modules, norm_scale

Choice = Literal["lasso", "feature_maps"]


@dataclass(frozen=True)
class FittedLayer:
    """A layer that reads fewer channels.

    kept, channels        of the group that it reads
    masked, refit         squared error over squared target, before and after its weights were fitted
    """

    name: str
    group: str
    kept: int
    channels: int
    masked: float
    refit: float


class DenseAndPruned:
    """The dense network, and the one that loses channels group by group."""

    def __init__(self, model: nn.Module, shape: Sequence[int], device: torch.device) -> None:
        self.dense = plain_copy(model).to(device)
        self.pruned = copy.deepcopy(unwrapped(model)).to(device).eval().requires_grad_(False)
        self._device = device
        self._layers = {name: layer for layer in layers_of(self.pruned) for name in (layer.name, *layer.shared)}
        self._modules = weighted_modules(self.dense), weighted_modules(self.pruned)
        self._norms = norm_modules(self.dense), norm_modules(self.pruned)
        self._follows = following_norms(model, tuple(shape))
        self._known = tensors_of(self.pruned)
        self._ends: frozenset[str] = frozenset()

    def readers(self, group: ChannelGroup) -> list[Member]:
        """Members by which layers read the group; none where anything else reads it too."""
        members = [member for member in group.members if member.role == "consumer"]
        fine = all(
            layer_of(member.tensor) in self._layers
            and member.tensor.endswith(".weight")
            and member.tensor in self._known
            for member in members
        )
        return members if fine else []

    def find_branch_ends(self, chosen: Sequence[ChannelGroup], shape: Sequence[int]) -> None:
        """Which layers end residual branches; the groups in the order in which they will be pruned."""
        place = {
            self._layers[layer_of(member.tensor)].name: number
            for number, group in enumerate(chosen)
            for member in self.readers(group)
        }
        ends = {layer.name: self._end(layer, 0) for layer in self._layers.values()}
        weight = next(iter(self.dense.parameters()))
        image = torch.zeros(1, *shape, dtype=weight.dtype, device=self._device)
        self._ends = branch_ends(self.dense, ends, image, place)

    def sums(
        self, group: ChannelGroup, batches: Iterable[Sequence[Tensor]], positions: int, seed: int
    ) -> dict[str, LayerSums]:
        """Of every layer that reads the group. raises SparsityError without images."""
        layers = {layer.name: layer for layer in (self._layers[layer_of(m.tensor)] for m in self.readers(group))}
        pairs = [
            Pair(
                layer,
                {name: (self._modules[0][name], self._modules[1][name]) for name in (layer.name, *layer.shared)},
                (self._end(layer, 0), self._end(layer, 1)) if layer.name in self._ends else None,
                self._scale(layer),
            )
            for layer in layers.values()
        ]
        found = sums_of((self.dense, self.pruned), pairs, batches, positions=positions, seed=seed, device=self._device)
        if not found:
            raise SparsityError(f"{group.name}: no image reached the layers that read its channels.")
        return found

    def scores(
        self, group: ChannelGroup, sums: Mapping[str, LayerSums], criterion: Choice, kept: int, solver: Solver
    ) -> Scores:
        """(size,) of the group's units, larger = keep."""
        gram = torch.zeros(group.size, group.size, dtype=torch.float64)
        moment = torch.zeros(group.size, dtype=torch.float64)
        length = torch.zeros(group.size, dtype=torch.float64)
        for member in self.readers(group):
            layer = self._layers[layer_of(member.tensor)]
            if layer.name not in sums:
                continue
            weight, _ = self._weight(layer)
            owner = _owners(member, layer)
            inside = owner >= 0
            found = sums[layer.name]
            importance = self._scale(layer).square().cpu().reshape(weight.shape[:2])
            # gram of the terms b_i X_i W_i: the columns' gram times the products of their weights
            terms = found.gram * ((weight * importance[:, :, None]).mT @ weight)
            others = (terms * ~inside[:, None, :]).sum(2)
            linear = (found.cross * weight * importance[:, :, None]).sum(1) - others
            for part in range(len(weight)):
                units, columns = owner[part][inside[part]], torch.nonzero(inside[part])[:, 0]
                rows = torch.zeros(group.size, len(columns), dtype=torch.float64)
                rows.index_add_(0, units, terms[part][columns][:, columns])
                gram.index_add_(1, units, rows)
                moment.index_add_(0, units, linear[part][columns])
                length.index_add_(0, units, weight[part][:, columns].abs().sum(0))
        if criterion == "feature_maps":
            return length.numpy()
        return lasso_scores(gram.numpy(), moment.numpy(), kept, solver)

    def fit_(self, group: ChannelGroup, sums: Mapping[str, LayerSums], kept: int, refit: bool) -> list[FittedLayer]:
        """Fit the layers that read the group, which has been masked."""
        rows: list[FittedLayer] = []
        for name, found in sums.items():
            layer = self._layers[name]
            weight, stays = self._weight(layer)
            after = fitted(found, weight, stays) if refit else weight
            size = found.size() or 1.0
            before, error = found.error(weight) / size, found.error(after) / size
            rows.append(FittedLayer(name, group.name, kept, group.size, before, error))
            if refit:
                stored = stored_weight(self._modules[1][name])
                filters = after.reshape(layer.filter_shape)
                stored.copy_(as_stored(filters, layer.kind, layer.groups))
        return rows

    def weights(self, names: set[str]) -> dict[str, Tensor]:
        """The fitted weights of layers, on the CPU."""
        return {
            name: stored_weight(self._modules[1][name]).detach().cpu().clone()
            for name in self._modules[1]
            if name in names
        }

    def _weight(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Weights of a layer of the pruned network, and which of them may be changed: (groups, outputs, columns)."""
        tensors = tensors_of(self.pruned)[f"{layer.name}.weight"]
        weight, *masks = (filters_first(tensor.detach().cpu(), layer.kind, layer.groups) for tensor in tensors)
        kept = torch.ones(weight.shape, dtype=torch.bool)
        for mask in masks:
            kept = kept & mask
        outputs, *rest = layer.filter_shape
        shape = (layer.groups, outputs // layer.groups, torch.Size(rest).numel())
        return (weight.double() * kept).reshape(shape), kept.reshape(shape)

    def _end(self, layer: Layer, side: int) -> nn.Module:
        """The module whose output is the layer's, behind its norm."""
        norm = self._follows.get(layer.name)
        return self._norms[side][norm] if norm is not None else self._modules[side][layer.name]

    def _scale(self, layer: Layer) -> Tensor:
        norm = self._follows.get(layer.name)
        if norm is None:
            return torch.ones(layer.filter_shape[0], dtype=torch.float64, device=self._device)
        return norm_scale(self._norms[0][norm]).scale


def _owners(member: Member, layer: Layer) -> Tensor:
    """(groups, columns) int64: the unit that each column belongs to, -1 for channels of other groups."""
    channels = np.full(member.length, -1, dtype=np.int64)
    for unit, positions in enumerate(member.positions):
        channels[positions] = unit
    kernel = torch.Size(layer.filter_shape[2:]).numel()
    return torch.from_numpy(channels).reshape(layer.groups, -1).repeat_interleave(kernel, dim=1)
