"""Channels chosen by what the layers that read them can do without, and those layers fitted to the dense network.

    for every group, in the order in which the network computes them:
        lasso           keep the channels i with b_i != 0 in  min || Y - sum b_i X_i W_i ||^2 + penalty || b ||_1
        feature_maps    keep the channels that are read with the largest weights (L1)
        then            W <- argmin || Y - X W ||^2  over the channels that stay

X is what the layers read in the network pruned so far, Y what they gave in the dense one, both at random positions
of random images. A group with several readers sums their errors; outputs count as the batch norm behind them scales
them. How many channels of a group stay is decided by the target alone, so that both criteria spend the same.
Source: He, Zhang & Sun 2017; PocketFlow (channel learner); Distiller (feature-map reconstruction); ALGORITHMS.md E10.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from secateur.channels.confirm import confirmed
from secateur.channels.dense_and_pruned import Choice, DenseAndPruned, FittedLayer
from secateur.channels.groups import IntArray
from secateur.channels.lasso import Solver
from secateur.channels.mask import mask_channels_
from secateur.channels.plan import RemovalPlan, make_plan
from secateur.channels.selection import Base, lowest, select_channels
from secateur.channels.trace import channel_groups, input_shape
from secateur.errors import SparsityError
from secateur.graph.table import percent, text_table
from secateur.progress import track
from secateur.registry import unknown
from secateur.sparsity import stored_weight
from secateur.sparsity.layers import weighted_modules

CHOICES = get_args(Choice)

POSITIONS = 10


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A removal plan and the weights that make up for what goes.

    weights    layer -> all its weights, as the network stores them, before channels are cut; what goes is zero or
               unused
    """

    plan: RemovalPlan
    weights: Mapping[str, Tensor]
    layers: tuple[FittedLayer, ...]

    def __str__(self) -> str:
        rows = [
            (one.name, one.group, f"{one.kept} of {one.channels}", percent(one.masked, 1.0), percent(one.refit, 1.0))
            for one in self.layers
        ]
        headers = ("layer", "reads", "channels", "error %", "refit %")
        return f"{self.plan}\n\n{text_table(headers, rows, left=2)}"


def reconstruct_channels(
    model: nn.Module,
    target: float,
    batches: Iterable[Sequence[Tensor]],
    input_size: Sequence[int] | None = None,
    *,
    criterion: Choice = "lasso",
    solver: Solver = "lars",
    refit: bool = True,
    positions: int = POSITIONS,
    base: Base = "macs",
    ratios: Mapping[str, float] | None = None,
    exclude: Iterable[str] = (),
    round_to: int = 1,
    min_channels: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Reconstruction:
    """Which channels go, and what the layers that read them become; `model` stays as it is.

    Carry it out with `refit_(model, found.weights)`, then `remove_channels_` or `mask_channels_` with `found.plan`.

    batches      prepared images first, labels or nothing after them; gone through once for every group
    solver       of lasso: `lars`, `ista`
    refit        fit the weights of every reader after each choice; a mask of a sparse network is respected
    positions    random output positions of each image
    seed         of the positions
    device       where both networks run
    others       as of plan_channels; the shares are uniform. A group that is read by something else than
                 convolutions and linear layers stays whole
    raises       SparsityError  a glob that matches nothing, a target out of reach, no images
                 ModelError     the network does not run on such an input
    """
    if criterion not in CHOICES:
        raise SparsityError(unknown("way of choosing channels by reconstruction", criterion, CHOICES))
    if positions < 1:
        raise SparsityError(f"at least one position of each image is needed, not {positions}.")
    shape = input_shape(model, input_size)
    groups = confirmed(model, channel_groups(model, input_size), shape)
    work = DenseAndPruned(model, shape, torch.device(device))
    zeros = {group.name: np.zeros(group.size) for group in groups.free if work.readers(group)}
    selection = select_channels(
        groups, zeros, target, base=base, ratios=ratios, exclude=exclude, round_to=round_to, min_channels=min_channels
    )
    chosen = [group for group in groups.free if group.name in selection.removed]
    work.find_branch_ends(chosen, shape)
    removed: dict[str, IntArray] = {}
    rows: list[FittedLayer] = []
    with track(len(chosen), f"channels by {criterion}") as progress:
        for group in chosen:
            count = len(selection.removed[group.name])
            sums = work.sums(group, batches, positions, seed)
            scores = work.scores(group, sums, criterion, group.size - count, solver)
            removed[group.name] = lowest(group, scores, count)
            plan = make_plan(groups, {group.name: removed[group.name]}, target=0.0, base=base, criterion=criterion)
            mask_channels_(work.pruned, plan)
            rows += work.fit_(group, sums, group.size - count, refit)
            progress.advance()
    plan = make_plan(groups, removed, target=target, base=base, criterion=criterion, reasons=selection.reasons)
    return Reconstruction(plan, work.weights({row.name for row in rows}) if refit else {}, tuple(rows))


@torch.no_grad()
def refit_(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give layers of `model` new weights of the same shape, in place; masks stay.

    raises    SparsityError  a layer that the network does not have in this shape; nothing is changed then
    """
    modules = weighted_modules(model)
    for name, weight in weights.items():
        if name not in modules:
            raise SparsityError(unknown("layer", name, modules))
        if stored_weight(modules[name]).shape != weight.shape:
            raise SparsityError(
                f"{name}: has weights of shape {'x'.join(map(str, stored_weight(modules[name]).shape))}, the fitted "
                f"ones have {'x'.join(map(str, weight.shape))}."
            )
    for name, weight in weights.items():
        stored_weight(modules[name]).copy_(weight)
