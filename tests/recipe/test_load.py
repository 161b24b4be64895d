"""Faults in a recipe are told with file, line, key and the nearest valid key; valid recipes round-trip."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import RecipeError
from secateur.recipe import (
    AgpEpochs,
    AgpIterations,
    Distillation,
    EvaluateStage,
    FinetuneStage,
    Model,
    OneShot,
    Recipe,
    SparsifyStage,
    Training,
    load_recipe,
    parse_recipe,
    recipe_to_yaml,
    save_recipe,
)
from secateur.recipe.document import MAX_BYTES

HEAD = "model: {name: resnet20_cifar10}\nstages:\n"

FAULTS = [
    (HEAD + "  - stage: sparsify\n    sparisty: 0.5\n", 4, "unknown key 'sparisty' in stage 'sparsify'", "'sparsity'?"),
    (HEAD + "  - stage: sparsfy\n", 3, "unknown stage 'sparsfy'", "'sparsify'?"),
    (HEAD + "  - {sparsity: 0.5}\n", 3, "needs the key 'stage'", "evaluate"),
    ("model: {nme: x}\nstages: [{stage: evaluate}]\n", 1, "unknown key 'nme' in section 'model'", "'name'?"),
    (HEAD + "  - stage: sparsify\n    sparsity: 1.5\n", 4, "'sparsity' in stage 'sparsify'", "found 1.5"),
    (HEAD + "  - stage: sparsify\n    schedule:\n      kind: agp\n      strt: 1\n", 6, "'strt'", "'start'?"),
    (HEAD + "  - stage: sparsify\n    schedule: {kind: agpp}\n", 4, "unknown kind 'agpp'", "'agp'?"),
    (HEAD + "  - stage: finetune\n    training:\n      epoch: 3\n", 5, "unknown key 'epoch'", "'epochs'?"),
    (HEAD + "  - stage: finetune\n    training: {optimizer: adamx}\n", 4, "'optimizer'", "'adamw'"),
    (HEAD + "  - stage: finetune\n    training: {decay: step}\n", 4, "step_epochs", "[5, 8]"),
    (HEAD + "  - stage: finetune\n    training: {decay: step, step_epochs: [8, 5]}\n", 4, "step_epochs must rise", ""),
    (HEAD + "  - stage: finetune\n    training: {learning_rate: .inf}\n", 4, "'learning_rate'", "finite"),
    (HEAD.replace("stages:", "stages: []"), 2, "'stages'", "at least 1"),
    ("stages: [{stage: evaluate}]\n", 1, "needs the key 'model'", ""),
    ("model: {name: a, name: b}\nstages: [{stage: evaluate}]\n", 1, "'name' is given twice", ""),
    ("model: &m {name: a}\ndata: *m\nstages: []\n", 2, "aliases", "not allowed"),
    ("model: [1\n", 2, "not valid YAML", ""),
    ("", None, "a recipe is a mapping", ""),
]


@pytest.mark.parametrize(("text", "line", "problem", "hint"), FAULTS, ids=[f[2] for f in FAULTS])
def test_fault_names_line_key_and_remedy(text, line, problem, hint):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, source="recipe.yaml")
    message = str(caught.value)
    assert message.startswith(f"recipe.yaml:{line}: " if line else "recipe.yaml: ")
    assert problem in message and hint in message
    assert "\n" not in message


def test_a_recipe_that_is_written_out_can_be_read_again():
    # 90 levels of a thousand bytes each, with every default.
    levels = [round(0.05 + 0.01 * number, 2) for number in range(90)]
    training = (
        "{stage: levels, table: ["
        + ", ".join(map(str, levels))
        + "], parts: [{layers: [a]}, {layers: [b]}, {layers: [c]}], training: {epochs: 0}}"
    )
    recipe = parse_recipe(HEAD + f"  - {training}\n")
    text = recipe_to_yaml(recipe)
    assert len(text) > 200_000
    assert parse_recipe(text) == recipe


def test_keys_that_contradict_each_other_are_told_without_the_whole_section():
    with pytest.raises(RecipeError) as caught:
        parse_recipe(HEAD + "  - {stage: levels, table: [0.5, 0.3]}\n", source="recipe.yaml")
    message = str(caught.value)
    assert message.startswith("recipe.yaml:3: stage 'levels': the levels of a table must rise")
    assert "found" not in message and "{" not in message


@pytest.mark.parametrize("text", ["", "- a\n", "just text", "3", "!!python/object/apply:os.system [id]"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(RecipeError):
        parse_recipe(text)


def test_deep_nesting_is_refused_at_once():
    with pytest.raises(RecipeError, match="nested deeper than 20 levels"):
        parse_recipe("a: " + "[" * 100_000)


def test_missing_binary_and_huge_files_are_sentences(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(tmp_path / "binary.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="too large"):
        load_recipe(tmp_path / "huge.yaml")


trainings = st.builds(
    Training,
    epochs=st.integers(0, 200),
    batch_size=st.integers(1, 512),
    learning_rate=st.floats(1e-6, 1.0),
    decay=st.sampled_from(["cosine", "constant"]),
    clip_gradient_norm=st.none() | st.floats(0.1, 10.0),
)
schedules = st.builds(OneShot) | st.builds(AgpEpochs, start=st.integers(0, 5)) | st.builds(AgpIterations)
teachers = st.just("dense") | st.builds(Model, name=st.just("resnet18"))
distillations = st.none() | st.builds(Distillation, teacher=teachers)
stages = (
    st.builds(EvaluateStage)
    | st.builds(FinetuneStage, training=trainings, distillation=distillations)
    | st.builds(SparsifyStage, sparsity=st.floats(0, 0.99), schedule=schedules, training=trainings)
)


@given(
    st.builds(
        Recipe,
        model=st.builds(Model, name=st.text(min_size=1)),
        data=st.builds(dict),
        seed=st.integers(0, 100),
        stages=st.lists(stages, min_size=1, max_size=4).map(tuple),
    )
)
@settings(deadline=None)
def test_recipe_round_trips_through_yaml(recipe):
    assert parse_recipe(recipe_to_yaml(recipe)) == recipe


def test_saved_recipe_loads_equal(tmp_path):
    recipe = Recipe(model=Model(name="resnet18"), stages=(SparsifyStage(),))
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
