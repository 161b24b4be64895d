"""Which residual branches go: step by step the one whose loss costs least for what it saves.

    next = argmin over branches  (divergence without it too - divergence now) / share of `base` that it holds

until the target is met. Divergence is KL(network before || network without) on training images, without labels; what
was chosen is kept after every step, so that a killed run goes on. Source: our own design.
"""

import copy
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor

from secateur import zoo
from secateur.channels import Branch, BranchPlan, drop_branches_, residual_branches, without_branches
from secateur.errors import SparsityError
from secateur.files import read_json, write_json
from secateur.pipeline.context import Context
from secateur.posttraining.losses import Divergence
from secateur.posttraining.subject_torch import TorchSubject
from secateur.progress import track
from secateur.recipe import RemoveBranchesStage
from secateur.registry import unknown
from secateur.sparsity import census
from secateur.training import distributed

BATCH = 64


def choose_branches(context: Context, stage: RemoveBranchesStage, path: Path) -> BranchPlan:
    """The plan that takes `target` of the stage's base out; the network is not changed.

    path      where the plan is kept, after every step
    raises    SparsityError  a target out of reach, a glob that matches nothing
              DataError      no training images
    """
    free, plan = branches_that_may_go(context, stage)
    if path.is_file():
        plan = BranchPlan.from_dict(read_json(path))
    network = copy.deepcopy(context.network).eval()
    divergence = Divergence(TorchSubject(network, context.preprocessing), lambda: _images(context, stage))
    drop_branches_(network, plan.rests)
    with track(100, "branches") as progress:
        shown = 0
        while plan.removed < plan.target:
            losses: dict[Branch, float] = {}
            for branch in free:
                if branch.name not in plan.rests:
                    with without_branches(network, {branch.name: branch.rest}):
                        losses[branch] = divergence()
            best = min(losses, key=lambda branch: (losses[branch] - plan.loss) / plan.share(branch))
            plan = plan.without(best, losses[best])
            drop_branches_(network, {best.name: best.rest})
            if distributed.is_main():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, plan.to_dict())
            done = min(100, int(100 * plan.removed / plan.target))
            progress.advance(done - shown, branches=len(plan.branches), divergence=plan.loss)
            shown = done
    return plan


def branches_that_may_go(context: Context, stage: RemoveBranchesStage) -> tuple[list[Branch], BranchPlan]:
    """The branches to choose from, and the plan that takes none of them.

    raises    SparsityError  a glob that matches nothing, or too few branches for the target
    """
    found = residual_branches(context.network, context.preprocessing.input_size)
    for glob in stage.exclude:
        if not any(fnmatchcase(branch.name, glob) for branch in found):
            raise SparsityError(unknown("residual block or glob", glob, [branch.name for branch in found]))
    free = [branch for branch in found if not any(fnmatchcase(branch.name, glob) for glob in stage.exclude)]
    counts = census(context.network, context.preprocessing.input_size)
    none = BranchPlan.of_none(stage.target, stage.base, counts.parameters, counts.macs)
    most = sum(none.share(branch) for branch in free)
    if most < stage.target:
        raise SparsityError(
            f"{100 * stage.target:g} % of the {stage.base} cannot be removed: {len(free)} residual branches may go, "
            f"with {100 * most:.1f} % together. Ask for less, exclude less, or remove channels (stage remove_channels)."
        )
    return free, none


def _images(context: Context, stage: RemoveBranchesStage) -> Iterator[Tensor]:
    """The same training images in every process and every look."""
    data = context.recipe.data
    limit = stage.images if data.train_limit is None else min(stage.images, data.train_limit)
    batches = zoo.loader(
        context.images,
        "train",
        context.preprocessing,
        batch_size=BATCH,
        seed=context.recipe.seed,
        workers=data.workers,
        limit=limit,
    )
    return (images for images, _ in batches)
