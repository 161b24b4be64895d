"""Stage `posttraining`: zeros in a trained network from a few unlabeled images, in minutes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from secateur.channels.rearrange import permute_for_nm_, rearrange_for_blocks_, replay_orders_
from secateur.export import WEIGHTS_FILE, folded_copy
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.layer_seconds import kept_seconds, measure_layer_seconds
from secateur.pipeline.network import save_artifact_weights
from secateur.pipeline.posttraining.agreement import Agreement, agreement_of
from secateur.pipeline.posttraining.by_magnitude import sparsify_by_magnitude_
from secateur.pipeline.posttraining.choices import DEFAULT_SPARSITY, patterns_of, plans_for, selection_for
from secateur.pipeline.posttraining.closed_form import Facts, sparsify_closed_form_
from secateur.pipeline.posttraining.gradients import TuningJob, norms_, reconstruct_units_, tune_network_
from secateur.pipeline.posttraining.images import batches_of, gram_images, images_for
from secateur.pipeline.posttraining.preview import check_orders
from secateur.pipeline.posttraining.steps import Steps
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.fold_norms import fold_norms_
from secateur.posttraining.losses import Divergence
from secateur.posttraining.progressive import Level
from secateur.posttraining.subject_torch import TorchSubject
from secateur.progress import say
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import NM, BlockOf, LayerSeconds, SparsityPlan, census
from secateur.training import evaluate


@stage_handlers.register("posttraining")
def posttraining_stage(context: Context, stage: PosttrainingStage) -> dict[str, Any]:
    """returns    plans, one for each pattern in use; calibration images; choice of levels; steps and their distances;
    what a table of levels came to, level by level; agreement with the dense network on images that nothing was fitted
    to. Weights of every level of a table go to levels/NN"""
    folder, seed = context.stage_folder, context.recipe.seed
    cache = folder if stage.cache is None else Path(stage.cache)
    box = TimeBox(stage.budget, folder)
    orders = _reordered(context, stage)
    context.keep_dense()
    network = context.network.eval()
    if stage.fold_norms:
        fold_norms_(network)
    # What the stages before have left is what this one keeps to, their zeros and all.
    dense = folded_copy(network).eval()
    calibration, batches, held_out = images_for(context.images, stage, seed, context.preprocessing)
    subject, reference = TorchSubject(network), TorchSubject(dense)
    steps = Steps(network, dense, Divergence(subject, held_out), folder / "steps")
    fitted_on = batches_of(calibration, context.preprocessing, stage, batches)
    table: list[dict[str, Any]] = []
    if stage.method == "magnitude":
        chosen = None

        def reached(level: Level) -> None:
            table.append(_level(context, level, agreement_of(subject, reference, held_out)))

        after = reached if stage.reconstruction is not None and stage.reconstruction.table else None
        plans: tuple[SparsityPlan, ...] = (
            sparsify_by_magnitude_(network, dense, fitted_on, stage, folder / "units", box, seed, after),
        )
    else:
        facts = Facts(
            census(network, context.preprocessing.input_size),
            lambda pattern: kept_seconds(folder, pattern, lambda: _seconds(dense, pattern, stage)),
        )
        images = gram_images(calibration, context.preprocessing, stage, batches, seed)
        chosen = sparsify_closed_form_(subject, reference, images, held_out, stage, cache, box, facts, seed)
        plans = plans_for(subject, chosen, stage)
    box.note()
    steps.begin("closed form" if chosen is not None else "magnitude")
    for plan in plans:
        say(f"posttraining: {plan.pattern} {100 * plan.achieved:.2f} % of {plan.base}, {len(plan.levels)} layers")
    if stage.estimate_norms:
        norms_(steps, batches)
    if stage.reconstruction is not None and chosen is not None:
        reconstruct_units_(steps, fitted_on, stage.reconstruction, plans, box, folder / "units", seed)
    tuned = None
    if stage.tuning is not None:
        job = TuningJob(stage.tuning, calibration, held_out, plans, box, folder / "tuning", seed)
        tuned = tune_network_(steps, job)
    agreement = agreement_of(subject, reference, held_out)
    say(f"posttraining: {agreement}")
    return {
        "plans": [plan.to_dict() for plan in plans],
        "orders": orders,
        "calibration": calibration.to_dict(),
        "levels": chosen.stitched.to_dict() if chosen is not None and chosen.stitched is not None else None,
        "steps": steps.rows,
        "table": table,
        "tuning": tuned,
        "agreement": asdict(agreement),
        "budget": {"seconds": stage.budget, "spent": box.spent},
    }


def _level(context: Context, level: Level, agreement: Agreement) -> dict[str, Any]:
    """One row of a table of levels; its network is kept."""
    folder = context.folder / "levels" / f"{100 * level.sparsity:g}"
    folder.mkdir(parents=True, exist_ok=True)
    save_artifact_weights(context.network, folder / WEIGHTS_FILE)
    row = {"sparsity": level.sparsity, "achieved": level.plan.achieved, **asdict(agreement)}
    if context.images.labelled:
        found = evaluate(context.network, context.images, context.preprocessing, limit=context.recipe.data.test_limit)
        row |= {"top1": found.top1, "top5": found.top5}
    say(f"posttraining: level {100 * level.sparsity:g} %, {agreement}")
    return row


def _reordered(context: Context, stage: PosttrainingStage) -> list[dict[str, Any]]:
    """Channels of the network, and of its dense copy, in an order that suits the pattern; the order plans."""
    if not (stage.permute or stage.rearrange):
        return []
    check_orders(stage)
    kind = NM if stage.permute else BlockOf
    pattern = next(rule for rule in patterns_of(stage) if isinstance(rule, kind))
    network = context.network
    names = selection_for(TorchSubject(network), stage).chosen
    if isinstance(pattern, NM):
        order = permute_for_nm_(network, pattern, layers=names, seed=context.recipe.seed)
    else:
        level = DEFAULT_SPARSITY if stage.sparsity is None else stage.sparsity
        order = rearrange_for_blocks_(network, pattern, levels=dict.fromkeys(names, level), seed=context.recipe.seed)
    if context.dense is not None:
        replay_orders_(context.dense, order)
    return [order.to_dict()]


def _seconds(network: nn.Module, pattern: str, stage: PosttrainingStage) -> LayerSeconds:
    say(f"posttraining: measures how long every layer takes with {pattern} zeros")
    return measure_layer_seconds(network, pattern, threads=stage.threads)
