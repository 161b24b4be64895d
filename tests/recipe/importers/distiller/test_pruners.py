"""Every class of pruner of Distiller becomes parts; what contradicts itself is told with its line."""

import textwrap

import pytest

import secateur
import secateur.sparsity
from secateur.errors import RecipeError
from secateur.sparsity import AllocationOptions

POLICY = "policies:\n  - pruner: {instance_name: p}\n    starting_epoch: 2\n    ending_epoch: 12\n    frequency: 2\n"
AGP = "initial_sparsity: 0.1\nfinal_sparsity: 0.5\n"
A, B = "module.layer1.0.conv1.weight", "module.layer1.0.conv2.weight"


def schedule(body: str, policy: str = POLICY) -> str:
    return "pruners:\n  p:\n" + textwrap.indent(body, "    ") + policy


def parts(tools, body, policy=POLICY):
    return tools.stages(tools.read(schedule(body, policy)), "sparsify")[0].parts


def part(tools, body, policy=POLICY):
    found = parts(tools, body, policy)
    assert len(found) == 1
    return found[0]


def test_agp_of_single_weights(tools):
    found = part(tools, f"class: AutomatedGradualPruner\nweights: [{A}, {B}]\n{AGP}")
    assert (found.layers, found.pattern, found.sparsity) == (("layer1.0.conv1", "layer1.0.conv2"), "unstructured", 0.5)
    assert (found.base, found.rounding, found.ties, found.allocation) == ("selected", "floor", "threshold", "uniform")
    assert found.schedule.model_dump() == {
        "kind": "agp", "unit": "epoch", "start": 2, "end": 12, "every": 2, "initial": 0.1,
    }  # fmt: skip


def test_a_text_for_weights_is_one_layer_and_warned_of(tools):
    imported = tools.read(schedule(f"class: AutomatedGradualPruner\nweights: {A}\n{AGP}"))
    assert imported.recipe.stages[1].parts[0].layers == ("layer1.0.conv1",)
    assert "f.yaml:4: 'weights' is a text and no list" in tools.said(imported)


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (
            f"class: AutomatedGradualPruner\nweights: [layer1.*.weight]\n{AGP}",
            4,
            "there are no patterns; name each one",
        ),
        (f"class: AutomatedGradualPruner\nweights: [layer1.0.conv3]\n{AGP}", 4, "Did you mean 'layer1.0.conv"),
        ("class: SensitivityPruner\nsensitivities:\n  '*': 0.5\n  'layer?.0.conv1': 1\n", 6, "there are no patterns"),
        ("class: SparsityLevelParameterPruner\nlevels: {'layer[1]': 0.5}\n", 4, "there are no patterns"),
    ],
)
def test_names_are_exact(tools, body, line, words):
    with pytest.raises(RecipeError) as caught:
        tools.read(schedule(body))
    assert str(caught.value).startswith(f"f.yaml:{line}: ") and words in str(caught.value)


@pytest.mark.parametrize(
    ("body", "cap"),
    [
        (f"class: AutomatedGradualPruner\nweights: [{A}]\ninitial_sparsity: 0.1\nfinal_sparsity: 0.995\n", 1.0),
        (f"class: AutomatedGradualPruner\nweights: [{A}]\ninitial_sparsity: 0.1\nfinal_sparsity: 0.98\n", 0.99),
        (f"class: SparsityLevelParameterPruner\nlevels: {{{A}: 0.995}}\n", 1.0),
    ],
)
def test_levels_above_the_usual_cap_are_reached(tools, body, cap):
    found = part(tools, body)
    assert found.cap == cap
    network = secateur.model("resnet20b_cifar10")
    plan = secateur.sparsity.plan_sparsity(
        network, found.sparsity, found.pattern, base=found.base, only=found.layers, levels=found.levels,
        rounding=found.rounding, ties=found.ties, options=AllocationOptions(cap=found.cap),
    )  # fmt: skip
    level = {**dict.fromkeys(found.layers, found.sparsity), **found.levels}["layer1.0.conv1"]
    assert {layer.name: layer.zeros for layer in plan.layers}["layer1.0.conv1"] == int(level * 2304)


def test_masks_in_the_forward_pass_alone_are_said_to_differ(tools):
    body = f"class: AutomatedGradualPruner\nweights: [{A}]\n{AGP}"
    policy = POLICY.replace("instance_name: p", "instance_name: p, args: {mask_on_forward_only: True%s}")
    assert "f.yaml:8: with 'mask_on_forward_only'" in tools.said(tools.read(schedule(body, policy % "")))
    copies = tools.read(schedule(body, policy % ", use_double_copies: True"))
    assert "mask_on_forward_only" not in tools.said(copies)


def test_levels_of_named_layers(tools):
    found = part(tools, f"class: SparsityLevelParameterPruner\nlevels: {{{A}: 0.3, {B}: 0.6}}\n")
    assert found.levels == {"layer1.0.conv1": 0.3, "layer1.0.conv2": 0.6} and found.layers == tuple(found.levels)
    assert found.schedule.kind == "fixed" and found.schedule.at == (2, 4, 6, 8, 10)


def test_a_star_is_the_level_of_all_other_layers(tools):
    found = part(tools, f"class: SparsityLevelParameterPruner\nlevels: {{{A}: 0.3, '*': 0.6}}\n")
    assert found.sparsity == 0.6 and found.levels == {"layer1.0.conv1": 0.3} and found.layers == ()
    assert found.include_first and found.include_classifier and found.include_depthwise


def test_levels_of_a_policy_replace_those_of_its_pruner(tools):
    policy = f"policies:\n  - pruner: {{instance_name: p, args: {{levels: {{{B}: 0.7}}}}}}\n    epochs: [0]\n"
    found = part(tools, f"class: SparsityLevelParameterPruner\nlevels: {{{A}: 0.3}}\n", policy)
    assert found.levels == {"layer1.0.conv2": 0.7} and found.schedule.at == (0,)


def test_thresholds(tools):
    found = part(tools, f"class: MagnitudeParameterPruner\nthresholds: {{'*': 0.02, {A}: 0.01}}\n")
    assert found.schedule.thresholds == {"*": 0.02, "layer1.0.conv1": 0.01}
    assert (found.schedule.start, found.schedule.end, found.schedule.every) == (2, 12, 2)


def test_sensitivities(tools):
    found = part(tools, f"class: SensitivityPruner\nsensitivities: {{{A}: 0.5}}\n")
    assert found.schedule.sensitivities == {"layer1.0.conv1": 0.5} and found.layers == ("layer1.0.conv1",)


def test_splicing(tools):
    body = (
        f"class: SplicingPruner\nsensitivities: {{{A}: 0.5}}\nlow_thresh_mult: 0.9\nhi_thresh_mult: 1.2\n"
        "sensitivity_multiplier: 0.05\n"
    )
    schedule = part(tools, body).schedule
    assert (schedule.kind, schedule.low, schedule.high, schedule.growth) == ("splice", 0.9, 1.2, 0.05)


def test_baidu(tools):
    body = f"class: BaiduRNNPruner\nq: 1.0\nramp_epoch_offset: 5\nramp_slope_mult: 3\nweights: [{A}]\n"
    schedule = part(tools, body).schedule
    assert (schedule.kind, schedule.q, schedule.offset, schedule.slope_mult, schedule.end) == ("baidu", 1.0, 5, 3, 12)


def test_structures_below_thresholds_are_a_part_for_each_group(tools):
    body = f"class: StructureParameterPruner\nthreshold_criteria: Max\nreg_regims: {{{A}: [0.1, 3D], {B}: [0.2, 2D]}}\n"
    first, second = parts(tools, body)
    assert (first.pattern, first.schedule.thresholds, first.schedule.of) == ("filter", {"layer1.0.conv1": 0.1}, "max")
    assert (second.pattern, second.layers) == ("kernel", ("layer1.0.conv2",))


@pytest.mark.parametrize(
    ("name", "criterion"),
    [
        ("L1RankedStructureParameterPruner", "l1"),
        ("L2RankedStructureParameterPruner", "l2"),
        ("ActivationAPoZRankedFilterPruner", "apoz"),
        ("ActivationMeanRankedFilterPruner", "mean_activation"),
        ("GradientRankedFilterPruner", "gradient_weight-signed"),
        ("RandomRankedFilterPruner", "random"),
        ("BernoulliFilterPruner", "bernoulli"),
    ],
)
def test_ranked_filters(tools, name, criterion):
    fixed = part(tools, f"class: {name}\nweights: [{A}]\ngroup_type: Filters\ndesired_sparsity: 0.4\n")
    assert (fixed.pattern, fixed.criterion, fixed.sparsity, fixed.schedule.kind) == ("filter", criterion, 0.4, "fixed")
    rising = part(tools, f"class: {name}_AGP\nweights: [{A}]\ngroup_type: Filters\n{AGP}")
    assert (rising.criterion, rising.sparsity, rising.schedule.kind) == (criterion, 0.5, "agp")


def test_criteria_and_patterns_exist():
    from secateur.recipe.importers.distiller.pruners import PATTERNS
    from secateur.recipe.importers.distiller.ranked import CRITERIA
    from secateur.sparsity import criteria, parse_pattern

    assert set(CRITERIA.values()) <= set(criteria)
    for pattern in PATTERNS.values():
        parse_pattern(pattern)


@pytest.mark.parametrize(
    ("group", "pattern"),
    [("3D", "filter"), ("Filters", "filter"), ("Channels", "channel"), ("Rows", "row")],
)
def test_groups_are_patterns(tools, group, pattern):
    body = f"class: L1RankedStructureParameterPruner\nweights: [{A}]\ngroup_type: {group}\ndesired_sparsity: 0.4\n"
    assert part(tools, body).pattern == pattern
    assert part(tools, body + "group_size: 8\n").pattern == f"{pattern}/8"


def test_blocks_have_their_shape(tools):
    body = f"class: L1RankedStructureParameterPruner\nweights: [{A}]\ngroup_type: Blocks\ndesired_sparsity: 0.4\n"
    assert part(tools, body + "kwargs: {block_shape: [1, 8, 1, 1]}\n").pattern == "block:1x8x1x1"


def test_a_leader_noise_and_rounding(tools):
    body = (
        f"class: L1RankedStructureParameterPruner\nweights: [{B}, {A}]\ngroup_type: Filters\ndesired_sparsity: 0.4\n"
        "group_dependency: Leader\nnoise: 0.1\nrounding_fn: math.ceil\n"
    )
    found = part(tools, body)
    assert (found.leader, found.noise, found.rounding) == ("layer1.0.conv2", 0.1, "ceil")


def test_the_old_name_of_gradual_filters(tools):
    old = part(tools, f"class: StructuredAutomatedGradualPruner\nreg_regims: {{{A}: 3D}}\n{AGP}")
    new = part(tools, f"class: L1RankedStructureParameterPruner_AGP\nweights: [{A}]\ngroup_type: 3D\n{AGP}")
    assert old == new


def test_random_levels(tools):
    body = f"class: RandomLevelStructureParameterPruner\nweights: [{A}]\nsparsity_range: [0.1, 0.4]\ngroup_type: 3D\n"
    schedule = part(tools, body).schedule
    assert (schedule.kind, schedule.low, schedule.high, schedule.start, schedule.end) == ("random", 0.1, 0.4, 2, 12)


def test_mean_activation_is_said_to_remove_the_other_end_there(tools):
    body = f"class: ActivationMeanRankedFilterPruner\nweights: [{A}]\ngroup_type: Filters\ndesired_sparsity: 0.4\n"
    assert "f.yaml:3: Distiller removes the filters with the largest mean activation" in tools.said(
        tools.read(schedule(body))
    )


POLICY_ARGS = "policies:\n  - pruner:\n      instance_name: p\n      args: {%s}\n    epochs: [0]\n"
LEVELS = f"class: SparsityLevelParameterPruner\nlevels: {{{A}: 0.3}}\n"


@pytest.mark.parametrize(
    ("args", "mask"),
    [
        ("mini_batch_pruning_frequency: 20", {"every_steps": 20}),
        ("skip_first_minibatch: True", {"skip_first_step": True}),
        ("use_double_copies: True", {"gradients": "all"}),
        ("mask_on_forward_only: True", {"gradients": "all"}),
        ("mask_on_forward_only: True, mask_gradients: True", {}),
        ("discard_masks_at_minibatch_end: True", {"discard_after_step": True, "keep_at_end": False}),
        ("discard_masks_at_minibatch_end: True, keep_mask: True", {"discard_after_step": True}),
        ("keep_mask: True", {}),
    ],
)
def test_arguments_of_a_policy_are_the_mask_rule(tools, args, mask):
    assert part(tools, LEVELS, POLICY_ARGS % args).mask.model_dump(exclude_defaults=True) == mask


def test_folded_norms(tools):
    assert part(tools, LEVELS, POLICY_ARGS % "fold_batchnorm: True").fold_norm


def test_masked_gradients_alone_are_warned_of(tools):
    imported = tools.read(schedule(LEVELS, POLICY_ARGS % "mask_gradients: True"))
    assert "f.yaml:8: 'mask_gradients' without 'mask_on_forward_only' is refused by Distiller" in tools.said(imported)


FAULTS = {
    "class": ("class: AutomatedGradualPrunr\n", 3, "unknown class 'AutomatedGradualPrunr'. Did you mean 'AutomatedG"),
    "argument": (
        f"class: AutomatedGradualPruner\nweights: [{A}]\nfinl: 1\n{AGP}",
        5,
        "unknown key 'finl' in pruner 'p'",
    ),
    "missing": (
        f"class: AutomatedGradualPruner\nweights: [{A}]\ninitial_sparsity: 0\n",
        2,
        "needs the key 'final_spars",
    ),
    "falling": (
        f"class: AutomatedGradualPruner\nweights: [{A}]\ninitial_sparsity: 0.5\nfinal_sparsity: 0.5\n",
        6,
        "'final_sparsity' (0.5) must be greater than 'initial_sparsity' (0.5)",
    ),
    "all": (
        f"class: AutomatedGradualPruner\nweights: [{A}]\ninitial_sparsity: 0.5\nfinal_sparsity: 1.0\n",
        6,
        "is a fraction below 1",
    ),
    "no weights": (f"class: AutomatedGradualPruner\nweights: []\n{AGP}", 4, "is empty"),
    "no star": (f"class: MagnitudeParameterPruner\nthresholds: {{{A}: 1}}\n", 4, "needs the key '*'"),
    "level": (f"class: SparsityLevelParameterPruner\nlevels: {{{A}: 1.5}}\n", 4, "is a fraction from 0 to below 1"),
    "group": (
        f"class: L1RankedStructureParameterPruner\nweights: [{A}]\ngroup_type: Filtrs\ndesired_sparsity: 0.5\n",
        5,
        "Did you mean 'Filters'?",
    ),
    "block": (
        f"class: L1RankedStructureParameterPruner\nweights: [{A}]\ngroup_type: Blocks\ndesired_sparsity: 0.5\n"
        "kwargs: {block_shape: [1, 8]}\n",
        7,
        "four whole numbers",
    ),
    "structure": (f"class: StructureParameterPruner\nreg_regims: {{{A}: [a, 3D]}}\n", 4, "is [threshold, group]"),
    "range": (
        f"class: RandomLevelStructureParameterPruner\nweights: [{A}]\nsparsity_range: [0.9, 0.1]\n",
        5,
        "is [low, high]",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_pruner_is_a_sentence_with_its_line(tools, kind):
    body, line, words = FAULTS[kind]
    with pytest.raises(RecipeError) as caught:
        tools.read(schedule(body))
    assert str(caught.value).startswith(f"f.yaml:{line}: ") and words in str(caught.value)


def test_agp_that_acts_once_cannot_rise(tools):
    policy = POLICY.replace("frequency: 2", "frequency: 10")
    with pytest.raises(RecipeError, match=r"f\.yaml:8: .*acts only once between epochs 2 and 12"):
        tools.read(schedule(f"class: AutomatedGradualPruner\nweights: [{A}]\n{AGP}", policy))
