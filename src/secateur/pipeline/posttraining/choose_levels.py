"""How patterns and levels are found.

database      every layer at all levels, then the levels of least error that meet the target (any cost)
uniform, erk  levels as the sparsify stage would choose them
2:4           a pattern with one level: every layer that can have it
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from secateur.errors import RecipeError
from secateur.graph.census import Census
from secateur.pipeline.posttraining.choices import (
    Choice,
    Chosen,
    method_of,
    one_level,
    patterns_of,
    selection_for,
    target_of,
)
from secateur.posttraining.coefficients import SearchSettings, search_coefficients
from secateur.posttraining.costs import CostFacts
from secateur.posttraining.database import DENSE, Database
from secateur.posttraining.database_filling import build_database
from secateur.posttraining.gram import Gram
from secateur.posttraining.losses import Batches, measure_losses
from secateur.posttraining.stitch import StitchSettings, solve
from secateur.posttraining.stitched import Stitched
from secateur.posttraining.subject import Subject
from secateur.progress import say
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import AllocationOptions, Layer, LayerSeconds, Selection, allocate, parse_pattern, read_levels
from secateur.sparsity.selection import match_layers

# Images on which the loss of a single layer is measured: fewer where they are large.
LOSS_IMAGES = 256
FEWEST_LOSS_IMAGES = 48
LOSS_PIXELS = LOSS_IMAGES * 64 * 64


def choose_levels(
    dense: Subject,
    scratch: Subject,
    grams: Mapping[str, Gram],
    importance: Mapping[str, Tensor],
    batches: Batches,
    stage: PosttrainingStage,
    folder: Path,
    *,
    census: Census | None = None,
    measure: Callable[[str], LayerSeconds] | None = None,
    seed: int = 0,
) -> Chosen:
    """Pattern and level of every layer; `dense` is not changed.

    scratch    a copy of the dense network that may be changed
    importance  of the layers' outputs
    folder     keeps the database, so that a killed call goes on and other targets take seconds
    batches    images that the Gram matrices are not of: what a layer was fitted to does not show what it loses
    census     of the dense network, for targets in MACs, bytes and parameters
    measure    pattern -> measured times, for a target in seconds without tables
    raises     PosttrainingError, SparsityError  a target out of reach;  RecipeError  keys that contradict each other
    """
    gathered, selection = set(grams), selection_for(dense, stage)
    unreached = dict.fromkeys(set(selection.chosen) - gathered, "no image reaches it")
    chosen = tuple(name for name in selection.chosen if name in gathered)
    selection = Selection(chosen, selection.skipped | unreached)
    if one_level(stage):
        rules = patterns_of(stage)
        fitting = {
            layer.name: next(
                rule for rule in rules if rule.applies(layer.filter_shape, layer.groups, layer.kind) is None
            )
            for layer in dense.layers
            if layer.name in selection.chosen
        }
        return Chosen(
            {name: Choice(rule, rule.fixed_level or 0.0) for name, rule in fitting.items()}, selection.skipped
        )
    if stage.allocation != "database":
        return _allocated(dense.layers, selection, stage)
    # What the second pass computes again needs no finish here: errors rank levels without it.
    finish = not stage.second_pass
    database = build_database(
        dense, grams, patterns_of(stage), folder, method=method_of(stage), importance=importance, polish=finish
    )
    settings = stitch_settings(
        dense, database, batches, stage, selection.skipped, census, measure if "seconds" in stage.remaining else None
    )
    stitched = solve(database, target_of(stage), settings=settings)
    if stage.search:
        search = SearchSettings(trials=stage.search, seed=seed)
        stitched = search_coefficients(scratch, database, stitched.target, batches, settings, search).stitched
    found = chosen_by(stitched, database, selection.skipped)
    say(f"posttraining: {100 * stitched.sparsity:.2f} % zeros chosen, {len(found.choices)} layers")
    return found


def chosen_by(stitched: Stitched, database: Database, skipped: Mapping[str, str]) -> Chosen:
    """A choice of options as patterns and levels."""
    choices = {
        layer.name: Choice(parse_pattern(layer.pattern), layer.level)
        for layer in stitched.layers
        if layer.pattern != DENSE
    }
    return Chosen(choices, {**database.skipped, **skipped}, stitched, database)


def stitch_settings(
    dense: Subject,
    database: Database,
    batches: Batches,
    stage: PosttrainingStage,
    skipped: Mapping[str, str],
    census: Census | None,
    measure: Callable[[str], LayerSeconds] | None,
) -> StitchSettings:
    """How levels are chosen from the database, with measured losses and times where they count.

    measure    pattern -> measured times of layers, where the stage names no tables; None: times do not count
    raises     ArtifactError  a table of times is damaged
    """
    tables = tuple(map(LayerSeconds.read, stage.hardware))
    if not tables and measure is not None:
        tables = tuple(measure(spec) for spec in stage.patterns)
    return StitchSettings(
        stage.errors,
        measure_losses(dense, database, _some(batches)) if stage.errors == "loss" else None,
        CostFacts(census, tables),
        skipped,
        cap=stage.cap,
        floor=stage.floor,
    )


def _some(batches: Batches) -> Batches:
    """The first of the batches: the loss of one layer shows on few images."""

    def first() -> Iterator[Tensor]:
        seen = 0
        for images in batches():
            yield images
            seen += len(images)
            by_size = LOSS_PIXELS // (images.shape[-1] * images.shape[-2])
            if seen >= min(LOSS_IMAGES, max(FEWEST_LOSS_IMAGES, by_size)):
                return

    return first


def _allocated(layers: Sequence[Layer], selection: Selection, stage: PosttrainingStage) -> Chosen:
    if len(stage.patterns) > 1:
        raise RecipeError(f"allocation {stage.allocation} knows one pattern; several need allocation: database.")
    rule = patterns_of(stage)[0]
    target = target_of(stage).value
    given = given_levels(layers, stage, target)
    levels = allocate(
        layers,
        target if stage.levels_file is None else None,
        stage.allocation,
        base=stage.base,
        excluded=selection.skipped,
        given={name: level for name, level in given.items() if name in selection.chosen},
        prunable={
            layer.name: rule.prunable(layer.filter_shape, layer.groups)
            for layer in layers
            if layer.name in selection.chosen
        },
        options=allocation_options(stage),
    )
    choices = {name: Choice(rule, level) for name, level in levels.levels.items() if level > 0}
    return Chosen(choices, levels.skipped)


def given_levels(layers: Sequence[Layer], stage: PosttrainingStage, target: float) -> dict[str, float]:
    """Layer -> level that the stage's file gives, at its table nearest to `target`; nothing without a file.

    raises    SparsityError  the file is missing, damaged, or does not fit the layers
    """
    if stage.levels_file is None:
        return {}
    found = read_levels(stage.levels_file, [layer.name for layer in layers], target=target)
    return {name: level for glob, level in found.items() for name in match_layers(layers, glob)}


def allocation_options(stage: PosttrainingStage) -> AllocationOptions:
    """What an allocation by rule can be told."""
    return AllocationOptions(cap=stage.cap, floor=stage.floor, power=stage.power)
