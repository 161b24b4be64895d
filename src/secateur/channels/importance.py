"""How much every channel of a group matters.

    score(unit) = sum over the tensors of the group of  criterion(filter) / norm of that tensor's scores

The tensors are the filters that make the channels (and depthwise filters), on request also what the consumers read
of them. Weights count as the network computes with them: masks applied.
Source: ALGORITHMS.md C, group scores; option `leader` is Distiller's rule.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from secateur.channels.groups import ChannelGroup, ChannelGroups, Member, layer_of
from secateur.channels.selection import Scores
from secateur.channels.tensors import named, tensors_of
from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity.criterion import ScoreInputs, criteria

FilterCriterion = Callable[[Tensor], Tensor]
Normalize = Literal["none", "max", "mean", "norm"]


def filter_criterion(name: str) -> FilterCriterion:
    """A criterion of `secateur.sparsity` as a function of a weight; one that needs data or norms says so when called.

    raises    RecipeError  an unknown name
    """
    rule = criteria[name]
    # One for all calls: drawn anew, layers of one shape would lose the same places.
    generator = torch.Generator().manual_seed(0)

    def scores(weight: Tensor) -> Tensor:
        return rule.filter_scores(rule.weight_scores(ScoreInputs(weight, generator=generator)))

    scores.__name__ = name
    return scores


def group_scores(
    model: nn.Module,
    groups: ChannelGroups,
    criterion: str | FilterCriterion | Mapping[str, Tensor] = "l2",
    *,
    normalize: Normalize = "mean",
    consumers: bool = False,
    leader: bool = False,
) -> dict[str, Scores]:
    """Name of every free group that can be scored -> (size,) float64 scores of its units, larger = keep.

    criterion    a name of `secateur.sparsity.criteria`, a function from a weight with its filters along axis 0 to
                 (filters,) scores, or such scores by name of the layer: FilterScores of the sparsity room for
                 criteria that need data or norms; a layer without scores is left out
    normalize    divide the scores of each tensor by their max, mean or norm before they are summed
    consumers    add what the consumers read of each channel; not with scores by layer
    leader       only the first layer of a group decides
    """
    rule = filter_criterion(criterion) if isinstance(criterion, str) else criterion
    return scores_of(tensors_of(model), groups, rule, normalize=normalize, consumers=consumers, leader=leader)


def scores_of(
    tensors: dict[str, list[Tensor]],
    groups: ChannelGroups,
    rule: FilterCriterion | Mapping[str, Tensor],
    *,
    normalize: Normalize,
    consumers: bool,
    leader: bool,
) -> dict[str, Scores]:
    """The same from tensors by name, wherever they come from."""
    if normalize not in get_args(Normalize):
        raise SparsityError(unknown("normalization", normalize, get_args(Normalize)))
    found = {group.name: _scores(group, tensors, rule, normalize, consumers, leader) for group in groups.free}
    return {name: scores for name, scores in found.items() if scores is not None}


def _scores(
    group: ChannelGroup,
    tensors: dict[str, list[Tensor]],
    rule: FilterCriterion | Mapping[str, Tensor],
    normalize: str,
    consumers: bool,
    leader: bool,
) -> Scores | None:
    chosen = [member for member in group.members if member.role == "producer"]
    chosen = chosen[:1] if leader and chosen else chosen
    if not leader:
        roles = ("depthwise", "consumer") if consumers and callable(rule) else ("depthwise",)
        chosen += [member for member in group.members if member.role in roles]
    if not chosen:
        chosen = [member for member in group.members if member.role in ("parameter", "norm")]
    total = np.zeros(group.size)
    scored = False
    for member in chosen:
        found = _of_layer(rule, member, tensors)
        if found is None:
            continue
        scored = True
        values = found.detach().double().cpu().numpy()
        if values.shape != (member.length,) or not np.isfinite(values).all():
            raise SparsityError(
                f"{layer_of(member.tensor)}: its {member.length} filters need one finite score each, "
                f"the criterion gave {values.shape}."
            )
        total += values[member.positions].sum(axis=1) / _size(values, normalize)
    return total if scored else None


def _of_layer(
    rule: FilterCriterion | Mapping[str, Tensor], member: Member, tensors: dict[str, list[Tensor]]
) -> Tensor | None:
    """The scores of one tensor; None where scores by layer have none for its layer."""
    if callable(rule):
        return rule(filters_of(named(tensors, member.tensor), member))
    try:
        return rule[layer_of(member.tensor)]
    except (KeyError, SparsityError):
        # A criterion that looks at norms or images has nothing to say about a layer without them.
        return None


@torch.no_grad()
def filters_of(found: list[Tensor], member: Member) -> Tensor:
    """(length, ...) the part of a weight that belongs to each entry of a member's axis, masks applied."""
    weight, *masks = found
    for mask in masks:
        weight = weight.masked_fill(~mask, 0.0)
    if member.groups > 1:
        parts = torch.stack(weight.chunk(member.groups))
        return parts.transpose(1, 2).flatten(0, 1)
    rows = weight.movedim(member.axis, 0)
    return rows if rows.ndim > 1 else rows[:, None]


def _size(values: Scores, normalize: str) -> float:
    if normalize == "none":
        return 1.0
    size = {"max": np.abs(values).max(), "mean": np.abs(values).mean(), "norm": np.linalg.norm(values)}[normalize]
    return float(size) or 1.0
