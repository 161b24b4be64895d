"""Widths of a network found by trying tables, in place of one ratio for all groups of channels.

    table -> channels chosen by the stage's criterion go, readers are refitted -> short fine-tuning -> accuracy

One decision for each group that may shrink, seen from the first layer that reads it; groups that the last layer reads
stay whole. Source: PocketFlow (channel pruning with DDPG); groups in place of single layers are our own design.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from secateur.channels import ChannelGroups, RemovalPlan, channel_groups, refit_, remove_channels_
from secateur.channels.confirm import confirmed
from secateur.channels.selection import select_channels
from secateur.channels.trace import input_shape
from secateur.pipeline.channel_choice import choose_channels
from secateur.pipeline.context import Context
from secateur.pipeline.judge import Judge, check_images
from secateur.progress import say
from secateur.recipe import RemoveChannelsStage
from secateur.search import ChannelDecision, ChannelProblem, Work, check_learner, search
from secateur.sparsity import census
from secateur.sparsity.layers import weighted_modules
from secateur.training import distributed


def check_channel_search(context: Context, stage: RemoveChannelsStage) -> None:
    """raises RecipeError, SparsityError when the search of a stage cannot be made"""
    if stage.search is not None:
        check_learner(stage.search)
        check_images(context)
        channel_problem(context, stage, _groups(context))


def search_channels(
    context: Context, stage: RemoveChannelsStage, folder: Path
) -> tuple[RemovalPlan, Mapping[str, Tensor]]:
    """The plan of the best table, and new weights of layers; the network is not changed.

    raises    SparsityError  a target out of reach;  and what searching and training raise
    """
    assert stage.search is not None
    groups, seed = _groups(context), context.recipe.seed
    problem = channel_problem(context, stage, groups)
    judge = Judge(context, stage.search, folder)

    def chosen(table: Mapping[str, float]) -> tuple[RemovalPlan, Mapping[str, Tensor]]:
        # Of a group that is not decided on, nothing goes.
        ratios = {group.name: 1.0 - table.get(group.name, 1.0) for group in groups.free}
        given = stage.model_copy(update={"ratios": ratios, "base": "channels", "search": None})
        plan, weights = choose_channels(context, given, 0.0)
        return replace(plan, target=stage.target, base=stage.base), weights

    def accuracy(table: Mapping[str, float]) -> float:
        network = copy.deepcopy(context.network)
        plan, weights = chosen(table)
        refit_(network, weights)
        remove_channels_(network, plan)
        return judge.accuracy_of(network)

    depends_on = judge.depends_on() | {"stage": stage.model_dump(mode="json", exclude={"training", "distillation"})}
    distributed.barrier()
    found = search(
        problem, accuracy, folder, stage.search, seed=seed, depends_on=depends_on, writes=distributed.is_main()
    )
    metric = stage.search.metric
    say(f"search: {100 * found.best.accuracy:.2f} % held-out {metric} in roll-out {found.best.number}")
    return chosen(found.table)


def channel_problem(context: Context, stage: RemoveChannelsStage, groups: ChannelGroups) -> ChannelProblem:
    """The decisions of a stage, and the work of every tensor. raises SparsityError."""
    assert stage.search is not None
    layers = {layer.name: layer for layer in census(context.network, context.preprocessing.input_size).layers}
    modules = weighted_modules(context.network)
    linear = [name for name, layer in layers.items() if layer.kind == "linear"]
    last = (linear or list(layers))[-1]
    equal = {group.name: np.zeros(group.size) for group in groups.free}
    whole = select_channels(groups, equal, 0.0, exclude=stage.exclude).reasons
    decisions: list[ChannelDecision] = []
    for group in groups.free:
        readers = [name for name in group.consumers if name in layers]
        if group.name in whole or not readers or last in readers:
            continue
        reader = layers[readers[0]]
        height, width = (*reader.input_shape[1:], 1, 1)[:2] if reader.kind != "linear" else (1, 1)
        stride = getattr(modules[reader.name], "stride", 1)
        step = math.lcm(stage.round_to, group.segments)
        decisions.append(
            ChannelDecision(
                group.name,
                group.size,
                reader.channels,
                reader.shape[1] * reader.groups,
                height,
                width,
                stride if isinstance(stride, int) else stride[0],
                reader.weights * reader.positions,
                step,
                min(max(step, -(-stage.min_channels // step) * step), group.size),
            )
        )
    work = work_of(groups, {decision.name for decision in decisions})
    return ChannelProblem(tuple(decisions), work, 1.0 - stage.target, stage.search.reward, stage.search.tolerance)


def work_of(groups: ChannelGroups, names: set[str]) -> tuple[Work, ...]:
    """What every tensor costs, and what share of which axis the named groups are."""
    reach: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    for group in groups.groups:
        for member in group.members if group.name in names else ():
            part = group.size * member.positions.shape[1] / member.length
            reach[member.tensor][member.axis][group.name] += part
    return tuple(
        Work(math.prod(use.shape) * use.positions, tuple(dict(axis) for axis in reach[name].values()))
        for name, use in groups.tensors.items()
        if use.positions
    )


def _groups(context: Context) -> ChannelGroups:
    size = context.preprocessing.input_size
    network = context.network
    return confirmed(network, channel_groups(network, size), input_shape(network, size))
