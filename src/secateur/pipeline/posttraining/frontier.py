"""What zeros cost along many targets: one database, then a network for every target, stitched, corrected and measured.

    out/grams, out/database    of the network, shared by all points
    out/points                 figures of every network that was measured, under the hash of all that it depends on
    out/frontier.json          the points

Levels are chosen as the stage `posttraining` does. A call that was killed goes on at the next point, and further
targets take only their own time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from secateur.cache import Cache, key_of
from secateur.errors import RecipeError
from secateur.files import write_json
from secateur.pipeline.posttraining.agreement import agreement_of
from secateur.pipeline.posttraining.choices import method_of, patterns_of, selection_for
from secateur.pipeline.posttraining.choose_levels import chosen_by, stitch_settings
from secateur.pipeline.posttraining.closed_form import write_zeros_
from secateur.pipeline.posttraining.frontier_networks import FrontierNetwork
from secateur.pipeline.posttraining.images import gram_images, images_for
from secateur.pipeline.posttraining.importance import importance_of
from secateur.pipeline.posttraining.judge import JUDGE_TEMPERATURES
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.costs import CostKind
from secateur.posttraining.database_filling import build_database
from secateur.posttraining.frontier import Frontier, frontier
from secateur.posttraining.losses import Divergence
from secateur.posttraining.stitched import Stitched
from secateur.posttraining.subject import Subject
from secateur.posttraining.target import Target
from secateur.posttraining.thin import gather_enough
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.registry import unknown
from secateur.sparsity import LayerSeconds

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


def draw_frontier(
    network: FrontierNetwork, folder: Path, stage: PosttrainingStage, settings: FrontierSettings
) -> Frontier:
    """Points of a network that is not changed; files go to `folder`.

    stage     patterns, layers, images, errors, second_pass, correct_bias, estimate_norms, match_outputs; its target
              does not count
    raises    PosttrainingError, SparsityError, RecipeError, DataError, DiskError
    """
    if stage.method == "magnitude" or stage.allocation != "database":
        raise RecipeError("a frontier is drawn from a database of second-order layers; leave method and allocation.")
    dense, seed, preprocessing = network.dense, network.seed, network.preprocessing
    calibration, batches, held_out = images_for(network.images, stage, seed, preprocessing)
    selection = selection_for(dense, stage)
    images = gram_images(calibration, preprocessing, stage, batches, seed)
    grams = gather_enough(dense, images, selection.chosen, folder=folder / "grams", seed=seed)
    importance = importance_of(dense, selection.chosen, images.batches, stage, folder / "importance", seed)
    database = build_database(
        dense,
        grams,
        patterns_of(stage),
        folder / "database",
        method=method_of(stage),
        importance=importance,
        polish=not stage.second_pass,
    )

    def measured(pattern: str) -> LayerSeconds:
        return network.seconds(pattern, stage.threads)

    measure = measured if "seconds" in settings.against else None
    skipped = {name: reason for name, reason in selection.skipped.items() if name in database.layers}
    how = stitch_settings(dense, database, held_out, stage, skipped, network.census(), measure)
    divergence = Divergence(dense, held_out)
    cache = Cache(folder / "points")
    named = {
        "second_pass": stage.second_pass,
        "bias": stage.correct_bias,
        "norms": stage.estimate_norms,
        "outputs": stage.match_outputs,
        "judge": JUDGE_TEMPERATURES,
    }

    def known(what: object, compute: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        key = key_of(["point", what, named, divergence.digest, network.labels, seed])
        entry = cache.get(key) or cache.put(key, dict(compute()))
        return {name: float(value) for name, value in entry.value.items()}

    def figures_of(subject: Subject) -> dict[str, float]:
        agreement = agreement_of(subject, dense, held_out)
        found = {"divergence": agreement.divergence, "same_class": agreement.same_class}
        accuracy = network.accuracy(subject)
        return found if accuracy is None else found | {"top1": accuracy.top1, "top5": accuracy.top5}

    def point(stitched: Stitched) -> Mapping[str, float]:
        chosen = chosen_by(stitched, database, skipped)

        def compute() -> Mapping[str, float]:
            own = network.copy()
            # Kept until the point is measured; another start finds the layers that are done.
            work = folder / "work"
            distance = divergence.of(own)
            box = TimeBox(None, work)
            write_zeros_(own, dense, chosen, images, grams, importance, stage, work, box, distance, seed)
            if stage.estimate_norms:
                network.settle_(own, distance, batches, work / "steps")
            return figures_of(own)

        return known([database.key, sorted(stitched.choice.items())], compute)

    found = frontier(database, settings.targets(stage), point, how)
    found = replace(found, dense_figures=known("dense", lambda: figures_of(dense)))
    write_json(folder / FRONTIER_FILE, found.to_dict())
    return found
