"""Tables of levels: a stage for each level, the epochs shared out, the contradictions found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import RecipeError
from secateur.recipe import ExportStage, SparsifyStage, build_recipe, parse_recipe, recipe_to_yaml
from secateur.recipe.expand import stage_starts


def recipe(**stage):
    return build_recipe({"model": {"name": "any"}, "stages": [{"stage": "levels", **stage}, {"stage": "report"}]})


def sparsify(made):
    return [stage for stage in made.stages if isinstance(stage, SparsifyStage)]


def test_starts_as_published():
    assert stage_starts(10_000, 7) == (0, 1428, 2857, 4285, 5714, 7142, 8571)


@given(st.integers(1, 50), st.integers(0, 500))
def test_every_stage_gets_its_share(stages, more):
    total = stages + more
    starts = stage_starts(total, stages)
    lengths = [later - earlier for earlier, later in zip(starts, (*starts[1:], total), strict=True)]
    assert sum(lengths) == total and max(lengths) - min(lengths) <= 1 and min(lengths) >= 1


def test_seven_levels_are_seven_trainings_with_their_evaluations_and_artifacts():
    made = recipe(training={"epochs": 24, "learning_rate": 0.02, "warmup_epochs": 0.5}, pattern="unstructured")
    assert [stage.stage for stage in made.stages] == ["sparsify", "evaluate", "export"] * 7 + ["report"]
    assert [stage.sparsity for stage in sparsify(made)] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert [stage.training.epochs for stage in sparsify(made)] == [3, 3, 4, 3, 4, 3, 4]
    folders = [stage.folder for stage in made.stages if isinstance(stage, ExportStage)]
    assert folders == ["levels/30", "levels/40", "levels/50", "levels/60", "levels/70", "levels/80", "levels/90"]
    for stage in sparsify(made):
        assert type(stage) is SparsifyStage and stage.pattern == "unstructured"
        assert stage.schedule.kind == "one_shot" and stage.mask.update == "every_step"
        assert stage.training.learning_rate == 0.02 and stage.training.warmup_epochs == 0.5


def test_msbench_published_training():
    assert [stage.training.epochs for stage in sparsify(recipe(training={"epochs": 112}))] == [16] * 7


def test_levels_between_percents_have_their_folder():
    made = recipe(table=[0.5, 0.625, 0.9375], training={"epochs": 0})
    folders = [stage.folder for stage in made.stages if isinstance(stage, ExportStage)]
    assert folders == ["levels/50", "levels/62.5", "levels/93.75"]
    assert [stage.training.epochs for stage in sparsify(made)] == [0, 0, 0]


def test_a_mask_rule_that_is_written_holds():
    for mask in ({"update": "scheduled"}, {"update": "backup", "reset_optimizer": True}):
        made = recipe(mask=mask, training={"epochs": 7})
        assert {stage.mask.update for stage in sparsify(made)} == {mask["update"]}
    made = recipe(mask={"gradients": "all"}, training={"epochs": 7})
    assert {(stage.mask.update, stage.mask.gradients) for stage in sparsify(made)} == {("every_step", "all")}


def test_every_part_gets_the_level():
    parts = [{"layers": ["body"], "pattern": "2:4"}, {"layers": ["fc"], "mask": {"update": "scheduled"}}]
    first, second = sparsify(recipe(parts=parts, table=[0.25, 0.5], training={"epochs": 4}))
    assert [part.sparsity for part in first.parts] == [0.25, 0.25]
    assert [part.sparsity for part in second.parts] == [0.5, 0.5]
    assert [part.mask.update for part in second.parts] == ["every_step", "scheduled"]
    assert [part.layers for part in second.parts] == [("body",), ("fc",)]


def test_what_is_saved_shows_the_single_stages_and_reads_back():
    made = recipe(training={"epochs": 7}, distillation={})
    text = recipe_to_yaml(made)
    assert "stage: levels" not in text and text.count("stage: sparsify") == 7
    assert parse_recipe(text) == made


@pytest.mark.parametrize("table", [[0.3, 0.2], [0.3, 0.5, 0.5], [0.9, 0.3]])
def test_levels_that_fall_are_refused_with_their_line(table):
    text = f"model: {{name: any}}\nstages:\n  - stage: levels\n    table: {table}\n"
    with pytest.raises(RecipeError, match=r"^mine.yaml:3: .*the levels of a table must rise"):
        parse_recipe(text, "mine.yaml")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"sparsity": 0.5}, "leave 'sparsity' out"),
        ({"schedule": {"kind": "agp"}}, "leave 'schedule' out"),
        ({"parts": [{"sparsity": 0.5}]}, "leave 'sparsity' out"),
        ({"training": {"epochs": 6}}, "6 epochs cannot be shared out among 7 levels"),
    ],
)
def test_contradictions_are_sentences(stage, message):
    with pytest.raises(RecipeError, match=f"^recipe: stage 'levels'.*{message}"):
        recipe(**stage)


def test_one_shot_may_be_written():
    assert len(sparsify(recipe(schedule={"kind": "one_shot"}, training={"epochs": 7}))) == 7
