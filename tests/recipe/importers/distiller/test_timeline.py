"""A schedule over its epochs is cut into stages."""

import pytest

from secateur.errors import RecipeError

HEAD = "# compress_classifier.py -a=resnet20_cifar --epochs=20 --lr=0.1\n"
PRUNERS = """\
pruners:
  rise: {class: AutomatedGradualPruner, initial_sparsity: 0.0, final_sparsity: 0.5, weights: [layer1.0.conv1]}
  late: {class: AutomatedGradualPruner, initial_sparsity: 0.0, final_sparsity: 0.7, weights: [layer1.0.conv2]}
  once: {class: L1RankedStructureParameterPruner, group_type: 3D, desired_sparsity: 0.5, weights: [layer2.0.conv1]}
  splice:
    class: SplicingPruner
    low_thresh_mult: 0.9
    hi_thresh_mult: 1.1
    sensitivity_multiplier: 0.1
    sensitivities: {layer3.0.conv1: 0.5}
  sigma: {class: SensitivityPruner, sensitivities: {layer3.0.conv2: 0.5}}
  below: {class: MagnitudeParameterPruner, thresholds: {'*': 0.01}}
lr_schedulers:
  watch: {class: ReduceLROnPlateau, factor: 0.1, patience: 2}
regularizers:
  small: {class: L1Regularizer, reg_regims: {module.layer1.0.conv1.weight: 1e-4}}
extensions:
  thin: {class: FilterRemover, thinning_func_str: remove_filters, arch: resnet20_cifar, dataset: cifar10}
policies:
"""


def policy(kind, name, *when, args=None):
    start = f"  - {kind}: {{instance_name: {name}}}\n"
    if len(when) == 1:
        return start + f"    epochs: {when[0]}\n"
    return start + "    starting_epoch: {}\n    ending_epoch: {}\n    frequency: {}\n".format(*when)


def stages(tools, *policies):
    imported = tools.read(HEAD + PRUNERS + "".join(policies))
    return [
        stage for stage in imported.recipe.stages if stage.stage not in ("evaluate", "export", "benchmark", "report")
    ]


def test_pruners_of_one_stretch_are_parts_of_one_training(tools):
    (stage,) = stages(tools, policy("pruner", "rise", 0, 10, 1), policy("pruner", "late", 4, 16, 2))
    assert [(p.schedule.start, p.schedule.end, p.schedule.every) for p in stage.parts] == [(0, 10, 1), (4, 16, 2)]
    assert stage.training.epochs == 20 and stage.training.keep == "sparsest"


def test_a_remover_cuts_the_training_and_later_epochs_count_from_there(tools):
    first, thin, second = stages(
        tools,
        policy("pruner", "rise", 0, 6, 2),
        policy("extension", "thin", [6]),
        policy("pruner", "late", 6, 14, 2),
    )
    assert (first.stage, first.training.epochs, first.training.keep) == ("sparsify", 6, "last")
    assert (thin.stage, thin.shift) == ("thin", "zero")
    assert (second.training.epochs, second.parts[0].schedule.start, second.parts[0].schedule.end) == (14, 0, 8)
    assert second.training.keep == "sparsest"


def test_pruners_listed_before_the_remover_act_before_it_in_the_same_epoch(tools):
    at_once, thin, rest = stages(tools, policy("pruner", "once", [0]), policy("extension", "thin", [0]))
    assert at_once.training.epochs == 0 and at_once.parts[0].schedule.kind == "one_shot"
    assert thin.stage == "thin" and (rest.stage, rest.training.epochs) == ("finetune", 20)


def test_pruners_listed_after_the_remover_act_after_it(tools):
    thin, rest = stages(tools, policy("extension", "thin", [0]), policy("pruner", "once", [0]))
    assert thin.stage == "thin" and rest.parts[0].schedule.at == (0,) and rest.training.epochs == 20


def test_a_remover_after_the_last_epoch_thins_the_result(tools):
    policies = policy("pruner", "rise", 0, 20, 1) + policy("extension", "thin", [20])
    first, thin = stages(tools, policies)
    assert (first.training.epochs, thin.stage) == (20, "thin")
    said = tools.said(tools.read(HEAD + PRUNERS + policies))
    assert "which a run of 20 epochs does not reach; here it thins the result" in said
    assert "after the last of 20" not in said


def test_a_training_before_the_first_pruner_is_part_of_it(tools):
    (stage,) = stages(tools, policy("pruner", "rise", 5, 10, 1))
    assert stage.parts[0].schedule.start == 5 and stage.training.epochs == 20


def test_a_second_pruner_of_the_same_layers_begins_a_stage(tools):
    first, second = stages(tools, policy("pruner", "rise", 0, 8, 1), policy("pruner", "rise", 10, 16, 1))
    assert (first.training.epochs, second.training.epochs) == (10, 10)
    assert (second.parts[0].schedule.start, second.parts[0].schedule.end) == (0, 6)


def test_two_pruners_of_the_same_layers_at_once_contradict_each_other(tools):
    with pytest.raises(RecipeError, match="'rise' and 'rise' contradict each other: both prune"):
        stages(tools, policy("pruner", "rise", 0, 8, 1), policy("pruner", "rise", 6, 16, 1))


def test_gradual_pruning_across_a_removal_is_refused(tools):
    with pytest.raises(RecipeError, match="'rise' prunes from epoch 0 to 12, but in epoch 6 the training is cut"):
        stages(tools, policy("pruner", "rise", 0, 12, 1), policy("extension", "thin", [6]))


def test_gradual_pruning_beyond_the_last_epoch_is_refused(tools):
    with pytest.raises(RecipeError, match="in epoch 20 the training is cut: the run ends"):
        stages(tools, policy("pruner", "rise", 0, 30, 1))


def test_fixed_levels_go_on_after_a_cut(tools):
    first, at_once, thin, second = stages(tools, policy("pruner", "once", 0, 12, 4), policy("extension", "thin", [8]))
    assert first.parts[0].schedule.at == (0, 4) and at_once.parts[0].schedule.kind == "one_shot"
    assert thin.stage == "thin" and second.stage == "finetune"


def test_a_regulariser_cuts_where_it_begins_and_ends(tools):
    before, during, after = stages(tools, policy("pruner", "once", [0]), policy("regularizer", "small", 5, 12, 1))
    assert [stage.training.epochs for stage in (before, during, after)] == [5, 7, 8]
    assert not before.regularize and not after.regularize
    assert during.stage == "finetune" and during.regularize[0].strength == 1e-4
    assert during.regularize[0].layers == ("layer1.0.conv1",)


@pytest.mark.parametrize(
    ("when", "epochs"), [(("[0, 9]",), "0, 9 of 0 to 9"), ((0, 10, 2), "0, 2, 4, 6, ... of 0 to 9")]
)
def test_a_regulariser_that_rests_between_its_epochs_is_refused(tools, when, epochs):
    with pytest.raises(RecipeError) as caught:
        stages(tools, policy("pruner", "once", [0]), policy("regularizer", "small", *when))
    assert f"'small' acts in epochs {epochs}, but a penalty acts in every epoch here" in str(caught.value)
    assert "f.yaml:23:" in str(caught.value)


def test_a_regulariser_of_listed_neighbours_is_one_run(tools):
    _, during, _ = stages(tools, policy("pruner", "once", [0]), policy("regularizer", "small", "[4, 5, 6]"))
    assert during.regularize and during.training.epochs == 3


@pytest.mark.parametrize("name", ["splice", "sigma", "below"])
def test_thresholds_at_irregular_epochs_are_refused(tools, name):
    with pytest.raises(RecipeError, match=rf"pruner '{name}' needs epochs at equal distances, not 0, 1, 5\."):
        stages(tools, policy("pruner", name, "[0, 1, 5]"))


@pytest.mark.parametrize("name", ["splice", "sigma"])
def test_what_is_measured_once_is_not_divided(tools, name):
    text = HEAD + PRUNERS + policy("pruner", name, 0, 12, 1)
    imported = tools.read(text + policy("regularizer", "small", 6, 20, 1))
    assert f"begins or ends in epoch 6, while '{name}' prunes" in tools.said(imported)
    (part,) = tools.stages(imported, "sparsify")[0].parts
    assert (part.schedule.start, part.schedule.end) == (0, 12)
    with pytest.raises(RecipeError, match="in epoch 6 the training is cut: the network is thinned"):
        tools.read(text + policy("extension", "thin", [6]))


def test_fixed_thresholds_go_on_after_a_cut(tools):
    before, after = stages(tools, policy("pruner", "below", 0, 12, 3), policy("regularizer", "small", 6, 20, 1))
    assert [(part.schedule.start, part.schedule.end, part.schedule.every) for part in before.parts] == [(0, 6, 3)]
    assert [(part.schedule.start, part.schedule.end) for part in after.parts] == [(0, 6)]


def test_a_plateau_begins_anew_at_a_cut_and_is_noted(tools):
    text = HEAD + PRUNERS + policy("pruner", "once", [0]) + policy("lr_scheduler", "watch", 0, 20, 1)
    assert "patience" not in tools.said(tools.read(text))
    imported = tools.read(text + policy("regularizer", "small", 8, 20, 1))
    assert "'watch' lowers the rate as the test loss demands; in epoch 8" in tools.said(imported)
    assert "the rate is 0.1 again and patience is counted anew" in tools.said(imported)


def test_a_cut_for_other_layers_leaves_gradual_pruning_whole_where_it_can(tools):
    first, second = stages(
        tools,
        policy("pruner", "rise", 0, 6, 1),
        policy("pruner", "late", 8, 16, 2),
        policy("pruner", "rise", 10, 16, 1),
    )
    assert first.training.epochs == 8 and [part.schedule.start for part in second.parts] == [0, 2]


def test_a_cut_that_must_divide_says_why(tools):
    with pytest.raises(RecipeError, match=r"'late' prunes .* in epoch 6 .* cut: 'rise' takes over layers of 'rise'"):
        stages(
            tools,
            policy("pruner", "late", 0, 20, 2),
            policy("pruner", "rise", 0, 6, 1),
            policy("pruner", "rise", 6, 12, 1),
        )


def test_a_regulariser_within_a_gradual_pruning_acts_all_along_and_is_noted(tools):
    text = HEAD + PRUNERS + policy("pruner", "rise", 0, 12, 1) + policy("regularizer", "small", 0, 6, 1)
    imported = tools.read(text)
    assert "acting during all of that training" in tools.said(imported)
    (stage,) = tools.stages(imported, "sparsify")
    assert stage.regularize and stage.training.epochs == 20


def test_a_policy_after_the_last_epoch_is_noted(tools):
    imported = tools.read(HEAD + PRUNERS + policy("pruner", "once", [0]) + policy("pruner", "late", 25, 30, 1))
    assert "'late' begins in epoch 25, after the last of 20" in tools.said(imported)


def test_epochs_are_those_of_the_policies_where_no_command_line_says_more(tools):
    imported = tools.read(PRUNERS + policy("pruner", "rise", 0, 9, 1))
    assert imported.recipe.stages[1].training.epochs == 9
    assert "does not say how many epochs are trained; taken are 9" in tools.said(imported)
