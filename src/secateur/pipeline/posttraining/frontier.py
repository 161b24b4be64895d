"""What zeros cost along many targets: one database, then a network for every target, stitched, corrected and measured.

    out/grams, out/database    of the network, shared by all points
    out/points                 figures of every network that was measured, under the hash of all that it depends on
    out/frontier.json          the points

Levels are chosen as the stage `posttraining` does. A call that was killed goes on at the next point, and further
targets take only their own time.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast, get_args

from torch import nn

from secateur.cache import Cache, key_of
from secateur.errors import RecipeError
from secateur.export import folded_copy
from secateur.files import write_json
from secateur.pipeline.context import Context
from secateur.pipeline.layer_seconds import measure_layer_seconds
from secateur.pipeline.posttraining.agreement import agreement_of
from secateur.pipeline.posttraining.choices import chosen_by, method_of, patterns_of, selection_for, stitch_settings
from secateur.pipeline.posttraining.closed_form import write_zeros_
from secateur.pipeline.posttraining.gradients import norms_
from secateur.pipeline.posttraining.images import gram_images, images_for
from secateur.pipeline.posttraining.steps import JUDGE_TEMPERATURE, Steps
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.costs import CostKind
from secateur.posttraining.database_filling import build_database
from secateur.posttraining.frontier import Frontier, frontier
from secateur.posttraining.losses import Divergence
from secateur.posttraining.stitched import Stitched
from secateur.posttraining.subject_torch import TorchSubject
from secateur.posttraining.target import Target
from secateur.posttraining.thin import gather_enough
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.registry import unknown
from secateur.sparsity import LayerSeconds, census
from secateur.training import evaluate

FRONTIER_FILE = "frontier.json"
ZEROS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class FrontierSettings:
    """Which points.

    against    costs; sparsity: fractions of zeros; others: shares of the dense network's that may remain
    zeros      fractions of zeros, and of a cost that goes
    raises     RecipeError  costs that do not exist, fractions that are none
    """

    against: tuple[str, ...] = ("sparsity", "macs")
    zeros: tuple[float, ...] = ZEROS

    def __post_init__(self) -> None:
        for kind in self.against:
            if kind not in get_args(CostKind):
                raise RecipeError(unknown("kind of cost", kind, get_args(CostKind)))
        if not self.against or not self.zeros or not all(0.0 < share < 1.0 for share in self.zeros):
            raise RecipeError("a frontier needs kinds of cost, and fractions between 0 and 1 to remove of them.")

    def targets(self, stage: PosttrainingStage) -> list[Target]:
        """Kind by kind, the mildest first."""
        found: list[Target] = []
        for kind in cast(tuple[CostKind, ...], self.against):
            for share in sorted(self.zeros):
                if kind == "sparsity":
                    found.append(Target(kind, share, base=stage.base))
                else:
                    found.append(Target(kind, round(1.0 - share, 9), relative=True))
        return found


def draw_frontier(context: Context, stage: PosttrainingStage, settings: FrontierSettings) -> Frontier:
    """Points of a network that is not changed; files go to the context's folder.

    stage     patterns, layers, images, errors, second_pass, correct_bias, estimate_norms, match_outputs; its target
              does not count
    raises    PosttrainingError, SparsityError, RecipeError, DataError, DiskError
    """
    if stage.method == "magnitude" or stage.allocation != "database":
        raise RecipeError("a frontier is drawn from a database of second-order layers; leave method and allocation.")
    folder, seed, preprocessing = context.folder, context.recipe.seed, context.preprocessing
    dense = folded_copy(context.network).eval()
    subject = TorchSubject(dense)
    calibration, batches, held_out = images_for(context.images, stage, seed, preprocessing)
    selection = selection_for(subject, stage)
    images = gram_images(calibration, preprocessing, stage, batches, seed)
    grams = gather_enough(subject, images, selection.chosen, folder=folder / "grams", seed=seed)
    database = build_database(
        subject,
        grams,
        patterns_of(stage),
        folder / "database",
        method=method_of(stage),
        polish=not stage.second_pass,
    )
    counts = census(dense, preprocessing.input_size)

    def measured(pattern: str) -> LayerSeconds:
        return measure_layer_seconds(dense, pattern, threads=stage.threads)

    measure = measured if "seconds" in settings.against else None
    skipped = {name: reason for name, reason in selection.skipped.items() if name in database.layers}
    how = stitch_settings(subject, database, held_out, stage, skipped, counts, measure)
    divergence = Divergence(subject, held_out)
    cache = Cache(folder / "points")
    named = {
        "second_pass": stage.second_pass,
        "bias": stage.correct_bias,
        "norms": stage.estimate_norms,
        "outputs": stage.match_outputs,
        "judge": JUDGE_TEMPERATURE,
    }

    def known(what: object, compute: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        key = key_of(["point", what, named, divergence.digest, context.recipe.data.model_dump(), seed])
        entry = cache.get(key) or cache.put(key, dict(compute()))
        return {name: float(value) for name, value in entry.value.items()}

    def figures_of(network: nn.Module) -> dict[str, float]:
        agreement = agreement_of(TorchSubject(network), subject, held_out)
        found = {"divergence": agreement.divergence, "same_class": agreement.same_class}
        return found | accuracy_of(context, network)

    def point(stitched: Stitched) -> Mapping[str, float]:
        chosen = chosen_by(stitched, database, skipped)

        def compute() -> Mapping[str, float]:
            network = copy.deepcopy(dense)
            own = TorchSubject(network)
            # Kept until the point is measured; another start finds the layers that are done.
            work = folder / "work"
            distance = divergence.of(own)
            steps = Steps(network, dense, distance, work / "steps")
            write_zeros_(own, subject, chosen, images, grams, stage, work, TimeBox(None, work), distance, seed)
            steps.begin("closed form")
            if stage.estimate_norms:
                norms_(steps, batches)
            return figures_of(network)

        return known([database.key, sorted(stitched.choice.items())], compute)

    found = frontier(database, settings.targets(stage), point, how)
    found = replace(found, dense_figures=known("dense", lambda: figures_of(dense)))
    write_json(folder / FRONTIER_FILE, found.to_dict())
    return found


def accuracy_of(context: Context, network: nn.Module) -> dict[str, float]:
    """Top-1 and top-5 of the test images, nothing where they have no labels."""
    if not context.images.labelled:
        return {}
    found = evaluate(network, context.images, context.preprocessing, limit=context.recipe.data.test_limit)
    return {"top1": found.top1, "top5": found.top5}
