"""Which channels a stage takes out, and what the layers that read them become."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor

from secateur import zoo
from secateur.channels import Reconstruction, RemovalPlan, plan_channels, reconstruct_channels
from secateur.channels.dense_and_pruned import Choice
from secateur.channels.trace import channel_groups
from secateur.errors import SparsityError
from secateur.pipeline.context import Context
from secateur.pipeline.scoring import statistics_for
from secateur.progress import say
from secateur.recipe import RemoveChannelsStage
from secateur.registry import unknown
from secateur.sparsity import Scoring, layers_of, read_levels
from secateur.sparsity.filter_scores import FilterScores
from secateur.training import distributed

BATCH = 64


def choose_channels(
    context: Context, stage: RemoveChannelsStage, share: float
) -> tuple[RemovalPlan, Mapping[str, Tensor]]:
    """The plan that takes `share` of the stage's base out, and new weights of layers by name; nothing is changed.

    raises    SparsityError  a target out of reach, a glob that matches nothing
              DataError      no training images for a criterion that looks at them
    """
    if stage.reconstructs:
        found = _reconstruction(context, stage, share)
        better = sum(layer.refit < layer.masked for layer in found.layers)
        say(
            f"remove_channels: {better} of {len(found.layers)} layers are nearer to the dense ones by their new weights"
        )
        return found.plan, found.weights
    return plan_of_filters(context, stage, share), {}


def plan_of_filters(context: Context, stage: RemoveChannelsStage, share: float) -> RemovalPlan:
    """The same for criteria that score filters."""
    scoring, network = Scoring(stage.criterion), context.network
    statistics = statistics_for(context, scoring, stage.statistics_images)
    return plan_channels(
        network,
        share,
        context.preprocessing.input_size,
        base=stage.base,
        scope=stage.scope,
        criterion=FilterScores(network, scoring, statistics, context.recipe.seed),
        normalize=stage.normalize,
        leader=stage.leader,
        ratios=ratios_of(context, stage),
        exclude=stage.exclude,
        round_to=stage.round_to,
        min_channels=stage.min_channels,
    )


def ratios_of(context: Context, stage: RemoveChannelsStage) -> dict[str, float]:
    """Glob of a layer -> share of its group that goes.

    The numbers of `ratios_file` are shares that stay of what each convolution reads, depthwise ones not among them; in
    a mapping, by name, shares that go. A channel that several read goes only where all of them let it go; one that none
    reads stays.

    raises    SparsityError  the file is missing or damaged, or has another number of layers
    """
    if stage.ratios_file is None:
        return dict(stage.ratios)
    readers = [layer.name for layer in layers_of(context.network) if layer.kind == "conv"]
    gone = read_levels(stage.ratios_file, readers, kept=True)
    if unmeant := sorted(gone.keys() - set(readers)):
        raise SparsityError(f"{stage.ratios_file}: {unknown('convolution', unmeant[0], readers)}")
    found: dict[str, float] = {}
    for group in channel_groups(context.network, context.preprocessing.input_size).free:
        shares = [gone.get(name, 0.0) for name in group.consumers]
        found[group.name] = min(shares, default=0.0)
    return found | dict(stage.ratios)


def preview_of(context: Context, stage: RemoveChannelsStage) -> RemovalPlan:
    """What the stage would take out in one round, by the length of filters where its criterion looks at data.

    raises    SparsityError  a target out of reach, a glob that matches nothing
    """
    looks_at_data = stage.reconstructs or Scoring(stage.criterion).needs & {"activations", "gradients"}
    shown = stage.model_copy(update={"criterion": "l2"}) if looks_at_data else stage
    return plan_of_filters(context, shown, stage.target)


def _reconstruction(context: Context, stage: RemoveChannelsStage, share: float) -> Reconstruction:
    """Every process looks at all images, so that all choose the same."""
    data, seed = context.recipe.data, context.recipe.seed
    images = stage.statistics_images
    batches = zoo.loader(
        context.images,
        "train",
        context.preprocessing,
        batch_size=BATCH,
        seed=seed,
        workers=data.workers,
        limit=images if data.train_limit is None else min(images, data.train_limit),
    )
    return reconstruct_channels(
        context.network,
        share,
        batches,
        context.preprocessing.input_size,
        criterion=cast(Choice, stage.criterion),
        solver=stage.solver,
        refit=stage.refit,
        positions=stage.positions,
        base=stage.base,
        ratios=ratios_of(context, stage),
        exclude=stage.exclude,
        round_to=stage.round_to,
        min_channels=stage.min_channels,
        seed=seed,
        device=distributed.device(),
    )
