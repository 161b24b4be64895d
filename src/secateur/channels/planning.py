"""From a network to a removal plan: groups, a trial, scores, selection."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from secateur.channels.confirm import check_runs, confirmed
from secateur.channels.groups import ChannelGroups, IntArray
from secateur.channels.importance import FilterCriterion, Normalize, group_scores
from secateur.channels.plan import RemovalPlan, make_plan
from secateur.channels.selection import Base, Scope, Scores, select_channels
from secateur.channels.trace import channel_groups, input_shape


def plan_channels(
    model: nn.Module,
    target: float,
    input_size: Sequence[int] | None = None,
    *,
    base: Base = "macs",
    scope: Scope = "uniform",
    criterion: str | FilterCriterion | Mapping[str, Tensor] = "l2",
    normalize: Normalize = "mean",
    consumers: bool = False,
    leader: bool = False,
    ratios: Mapping[str, float] | None = None,
    exclude: Iterable[str] = (),
    round_to: int = 1,
    min_channels: int | None = None,
) -> RemovalPlan:
    """Which channels of `model` go so that a fraction `target` of `base` is gone; nothing is changed yet.

    target          fraction of the network's macs or parameters, or of the channels of every group that may shrink
    input_size      of one image, see channel_groups
    scope           uniform: the same share of every group; global: the lowest scores of the whole network
    criterion       a name, a function of a weight, or scores by layer, see group_scores, with `normalize`,
                    `consumers` and `leader`
    ratios          glob of a layer -> share of its group, whatever the target says
    exclude         globs of layers whose channels all stay
    round_to        channels that stay are a multiple of this
    min_channels    fewest channels that stay, by default `round_to`
    raises          SparsityError  a glob that matches nothing, a target out of reach, code that does not run
                                   with as few channels
                    ModelError     the network does not run on such an input
    """
    shape = input_shape(model, input_size)
    groups = confirmed(model, channel_groups(model, input_size), shape)
    scores = group_scores(model, groups, criterion, normalize=normalize, consumers=consumers, leader=leader)
    plan = plan_by_scores(
        groups,
        scores,
        target,
        criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "scores by layer"),
        base=base,
        scope=scope,
        ratios=ratios,
        exclude=exclude,
        round_to=round_to,
        min_channels=min_channels,
    )
    check_runs(model, plan, shape)
    return plan


def plan_by_scores(
    groups: ChannelGroups,
    scores: Mapping[str, Scores],
    target: float,
    criterion: str,
    settle: Callable[[dict[str, IntArray]], dict[str, IntArray]] = lambda removed: removed,
    *,
    base: Base,
    **limits: Any,
) -> RemovalPlan:
    """The plan of the units with the lowest scores.

    criterion    how the scores are called
    settle       what becomes of the units that would go, by group, where something else still has a say
    limits       scope, ratios, exclude, round_to and min_channels of select_channels
    """
    selection = select_channels(groups, scores, target, base=base, **limits)
    removed = settle(selection.removed)
    return make_plan(groups, removed, target=target, base=base, criterion=criterion, reasons=selection.reasons)
