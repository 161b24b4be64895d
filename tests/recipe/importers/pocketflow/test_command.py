"""Command lines of PocketFlow: learners, their flags, and what their scripts fix."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.importers import import_command

CIFAR = "python nets/resnet_at_cifar10_run.py "
WEIGHTS = CIFAR + "--learner weight-sparse "


def said(imported):
    return "\n".join(map(str, imported.notes))


def stage_of(command, data=None):
    recipe = import_command(command, data=data).recipe
    (stage,) = [s for s in recipe.stages if s.stage in ("sparsify", "train", "remove_channels")]
    return stage


def test_weight_sparse_has_the_defaults_of_the_source():
    stage = stage_of(WEIGHTS)
    schedule = stage.schedule
    assert (stage.pattern, stage.sparsity, stage.base, stage.allocation) == (
        "unstructured",
        0.75,
        "selected",
        "ddpg",
    )
    search = stage.search
    assert (search.learner, search.rollouts, search.warmup, search.reward) == ("ddpg", 200, 50, "single")
    assert (search.regression.iterations, search.regression.learning_rate) == (20, 0.03)
    assert (search.iterations, search.learning_rate, search.images) == (400, 3e-4, 25 * stage.training.batch_size)
    assert (stage.rounding, stage.ties) == ("percentile", "threshold")
    assert (schedule.kind, schedule.begin, schedule.end, schedule.exponent, schedule.every) == (
        "agp_iterations", 0.1, 0.5, 3, 500,
    )  # fmt: skip
    assert (stage.mask.update, stage.mask.reset_optimizer) == ("backup", True)


@pytest.mark.parametrize(
    "flags", ["--ws_prune_ratio=0.6 --ws_iter_ratio_end 0.8", "--ws_prune_ratio 0.6 --ws_iter_ratio_end=0.8"]
)
def test_flags_in_both_styles(flags):
    stage = stage_of(WEIGHTS + flags)
    assert (stage.sparsity, stage.schedule.end) == (0.6, 0.8)


def test_the_schedules_of_the_scripts():
    training = stage_of(CIFAR + "--nb_epochs_rat 0.2 --batch_size 256").training
    assert (training.epochs, training.step_epochs, training.learning_rate) == (50, (20, 30, 40), 0.2)
    assert (training.momentum, training.weight_decay) == (0.9, 2e-4)
    mobile = "python nets/mobilenet_at_ilsvrc12_run.py --mobilenet_version 2 --nb_epochs_rat 0.5"
    training = stage_of(mobile, "imagefolder:D").training
    assert (training.decay, training.epochs) == ("exponential", 206)
    assert training.step_gamma == pytest.approx(0.98**2)


@pytest.mark.parametrize(
    ("script", "model"),
    [
        ("resnet_at_cifar10_run.py --resnet_size 56", "resnet56_cifar10"),
        ("resnet_at_ilsvrc12_run.py --resnet_size 50", "resnet50"),
        ("mobilenet_at_ilsvrc12_run.py --mobilenet_depth_mult 0.5", "mobilenet_v1_050_imagenet"),
        ("mobilenet_at_ilsvrc12_run.py --mobilenet_version 2", "mobilenet_v2"),
    ],
)
def test_scripts_name_networks(script, model):
    assert import_command(f"python nets/{script}", data="digits").recipe.model.name == model


def test_distillation_is_in_its_form():
    stage = stage_of(WEIGHTS + "--enbl_dst --tempr_dst 2")
    found = stage.distillation
    assert (found.form, found.temperature, found.weight, found.task_weight) == ("cross_entropy", 2, 4, 1)
    assert stage_of(WEIGHTS + "--noenbl_dst").distillation is None


@pytest.mark.parametrize(
    ("flags", "target", "base", "round_to", "words"),
    [
        ("--learner channel", 0.5, "macs", 1, "0.5 is the share of FLOPs that stays (base macs), not of channels"),
        (
            "--learner channel --cp_preserve_ratio 0.7 --cp_quadruple",
            0.3,
            "macs",
            4,
            "'auto' ratios are searched for in 200 roll-outs",
        ),
        ("--learner channel --cp_prune_option uniform", 0.4, "channels", 1, "0.6 is the share of channels that stays"),
        ("--learner channel --cp_prune_option list", 0.4, "channels", 1, "the ratios of ratio.list are shares"),
        (
            "--learner chn-pruned-rmt --cpr_prune_ratio 0.3",
            0.3,
            "channels",
            1,
            "0.3 is the share of channels that goes",
        ),
        ("--learner chn-pruned-gpu --cpg_prune_ratio 0.3", 0.3, "channels", 1, "not by proximal gradients"),
        ("--learner dis-chn-pruned --dcp_prune_ratio 0.3", 0.3, "channels", 1, "not by auxiliary losses"),
    ],
)
def test_channel_learners(flags, target, base, round_to, words):
    imported = import_command(CIFAR + flags)
    (stage,) = [stage for stage in imported.recipe.stages if stage.stage == "remove_channels"]
    assert (stage.target, stage.base, stage.round_to) == (pytest.approx(target), base, round_to)
    assert words in said(imported)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (WEIGHTS, "'optimal' levels are searched for in 200 roll-outs"),
        (WEIGHTS + "--ws_prune_ratio_prtl heurist", "heuristic levels may exceed 1"),
        (WEIGHTS + "--ddpg_noise_type action --ddpg_noise_prtl adapt", "only noise on parameters is adapted"),
        (WEIGHTS, "PocketFlow trains from scratch whatever weights it loads"),
        (WEIGHTS + "--ws_update_mask_step 100", "the flag is ws_mask_update_step"),
        (WEIGHTS + "--enbl_warm_start", "checkpoints are TensorFlow's"),
        (WEIGHTS + "--uql_weight_bits 4", "'uql_weight_bits' is not imported: it belongs to the learner uniform"),
        (WEIGHTS + "--ddpg_tau 0.1", "'ddpg_tau' is not imported"),
        (CIFAR + "--learner channel", "samples 30 batches, its documentation says 60"),
        (CIFAR + "--learner chn-pruned-rmt", "least squares in closed form"),
    ],
)
def test_traps_are_warned_of(command, words):
    assert words in said(import_command(command))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--learner chn-pruned-rmt --cpr_skip_last_layer", "'cpr_skip_last_layer' keeps the channels that the last"),
        ("--learner chn-pruned-gpu", "'cpg_skip_ht_layers' keeps the channels that the last layer reads"),
        ("--learner chn-pruned-gpu --cpg_prune_ratio_file r.list", "it belongs to cpg_prune_ratio_type list"),
        (
            "--learner weight-sparse --ws_prune_ratio_prtl uniform --ddpg_noise_type action",
            "'ddpg_noise_type' is not imported: nothing is searched for",
        ),
    ],
)
def test_layers_and_ratios_that_are_not_imported_are_noted(flags, words):
    assert words in said(import_command(CIFAR + flags))


def test_what_is_imported_is_not_noted_as_left_out():
    imported = import_command(WEIGHTS + "--ddpg_noise_type action")
    assert imported.recipe.stages[1].search.noise == "actions" and "'ddpg_noise_type'" not in said(imported)
    off = "--learner chn-pruned-gpu --nocpg_skip_ht_layers"
    assert "cpg_skip_ht_layers" not in said(import_command(CIFAR + off))


def test_a_list_of_shares_that_go_is_refused():
    with pytest.raises(RecipeError, match=r"the ratios of r\.list are shares that go, and lists of ours hold those"):
        import_command(CIFAR + "--learner chn-pruned-gpu --cpg_prune_ratio_type list --cpg_prune_ratio_file r.list")


@pytest.mark.parametrize(
    ("flags", "allocation"), [("optimal", "ddpg"), ("uniform", "uniform"), ("heurist", "heuristic")]
)
def test_levels_of_weight_sparse(flags, allocation):
    stage = stage_of(WEIGHTS + f"--ws_prune_ratio_prtl {flags}")
    assert stage.allocation == allocation
    assert (stage.search is not None) == (allocation == "ddpg")
    # On CIFAR-10 the search leaves the first and the last layer dense, on ImageNet it does not.
    assert (stage.include_first, stage.include_classifier) == ((allocation != "ddpg",) * 2)
    large = f"python nets/resnet_at_ilsvrc12_run.py --learner weight-sparse --ws_prune_ratio_prtl {flags}"
    stage = stage_of(large, "imagefolder:D")
    assert (stage.include_first, stage.include_classifier) == (True, True)


def test_flags_of_the_searches():
    flags = "--ws_nb_rlouts 30 --ws_nb_rlouts_min 40 --ws_reward_type multi-obj --ws_nb_iters_feval 5 "
    search = stage_of(WEIGHTS + flags + "--ddpg_noise_prtl adapt --batch_size 64").search
    assert (search.rollouts, search.warmup, search.reward, search.noise) == (30, 29, "multi", "adaptive")
    assert (search.images, search.batch_size) == (320, 64)
    command = CIFAR + "--learner channel --cp_reward_policy flops --cp_noise_tolerance 0.2 --cp_nb_rlouts 90 "
    stage = stage_of(command + "--ddpg_noise_type action")
    assert (stage.search.reward, stage.search.tolerance, stage.search.rollouts) == ("flops", 0.2, 90)
    assert stage.search.noise == "actions"
    assert stage_of(CIFAR + "--learner channel --cp_prune_option uniform").search is None


def test_the_misnamed_flag_is_taken_for_the_right_one():
    assert stage_of(WEIGHTS + "--ws_update_mask_step 100").schedule.every == 100


def test_evaluation():
    assert [s.stage for s in import_command(WEIGHTS + "--exec_mode eval").recipe.stages] == ["evaluate"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (CIFAR + "--learner weight-spars", "Did you mean 'weight-sparse'?"),
        (WEIGHTS + "--ws_prune_rato 0.5", "Did you mean 'ws_prune_ratio'?"),
        (WEIGHTS + "--ws_iter_ratio_beg 0.6", "lies after 'ws_iter_ratio_beg'"),
        (WEIGHTS + "--ws_prune_ratio 1", "is from 0 to 0.9999"),
        ("python nets/lenet_at_cifar10_run.py --learner channel", "give --model for another network"),
        ("python nets/resnet_at_ilsvrc12_run.py --learner channel", "does not say which images"),
    ],
)
def test_a_faulty_command_is_a_sentence(command, words):
    with pytest.raises(RecipeError) as caught:
        import_command(command)
    assert words in str(caught.value)


def test_channels_are_chosen_by_lasso_with_the_solver_of_the_learner():
    stage = stage_of(CIFAR + "--learner channel --cp_nb_points_per_layer 7 --cp_nb_batches 4 --batch_size 64")
    assert (stage.criterion, stage.solver, stage.refit) == ("lasso", "lars", True)
    assert (stage.positions, stage.statistics_images) == (7, 256)
    assert stage_of(CIFAR + "--learner channel").statistics_images == 30 * 128
    assert stage_of(CIFAR + "--learner channel --nocp_lasso").criterion == "feature_maps"
    remote = stage_of(CIFAR + "--learner chn-pruned-rmt --cpr_nb_smpls 200")
    assert (remote.criterion, remote.solver, remote.statistics_images) == ("lasso", "ista", 200)


def test_the_file_of_ratios_is_read_by_the_stage():
    imported = import_command(CIFAR + "--learner channel --cp_prune_option list --cp_prune_list_file mine.list")
    (stage,) = [stage for stage in imported.recipe.stages if stage.stage == "remove_channels"]
    assert (stage.ratios_file, stage.criterion, stage.search) == ("mine.list", "lasso", None)
