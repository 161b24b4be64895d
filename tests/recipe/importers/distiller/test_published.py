"""The published schedules: their own tables of nonzeros, on the networks that they name (ALGORITHMS.md L1)."""

from collections import Counter

import pytest

import secateur
from secateur.recipe import parse_recipe, recipe_to_yaml
from secateur.recipe.importers import check_against, import_recipe
from secateur.sparsity import plan_sparsity, sparsify_

DEGIRUM = {
    70: ("degirum/resnet50_pruned_70_schedule.yaml", 7_481_351, 1_848_514_586, 70.66472),
    85: ("degirum/resnet50_pruned_85_schedule.yaml", 3_935_859, 713_814_957, 84.56702),
}
# Shape -> zeros of the 70 and the 85 % file, of layers that are pruned in both (L1).
ZEROS = {
    (128, 128, 3, 3): (103_219, 125_337),
    (512, 128, 1, 1): (45_875, 55_705),
    (512, 256, 1, 1): (91_750, 111_411),
    (128, 512, 1, 1): (45_875, 55_705),
    (256, 512, 1, 1): (91_750, 111_411),
    (256, 256, 3, 3): (412_876, 501_350),
    (1024, 256, 1, 1): (183_500, 222_822),
    (1024, 512, 1, 1): (367_001, 445_644),
    (256, 1024, 1, 1): (183_500, 222_822),
    (512, 1024, 1, 1): (367_001, 445_644),
    (512, 512, 3, 3): (1_651_507, 2_005_401),
    (2048, 512, 1, 1): (734_003, 891_289),
    (2048, 1024, 1, 1): (1_468_006, 1_782_579),
    (512, 2048, 1, 1): (734_003, 891_289),
    (1000, 2048): (1_781_760, 1_638_400),
}
EARLY = {(64, 64, 1, 1): 3481, (64, 64, 3, 3): 31_334, (256, 64, 1, 1): 13_926, (64, 256, 1, 1): 13_926}


@pytest.fixture(scope="module")
def resnet50():
    return secateur.model("resnet50")


@pytest.fixture(scope="module")
def counted(resnet50):
    return secateur.census(resnet50)


def planned_zeros(network, imported) -> dict[str, int]:
    """Zeros of every layer, as the parts of all sparsify stages plan them."""
    zeros: Counter[str] = Counter()
    for stage in imported.recipe.stages:
        for part in getattr(stage, "parts", ()):
            plan = plan_sparsity(
                network,
                part.sparsity,
                part.pattern,
                part.criterion,
                part.allocation,
                part.base,
                only=part.layers,
                levels=part.levels,
                rounding=part.rounding,
                ties=part.ties,
            )
            zeros.update({layer.name: layer.zeros for layer in plan.layers if layer.level is not None})
    return dict(zeros)


@pytest.mark.parametrize("level", DEGIRUM)
def test_degirum_schedules_give_the_published_zeros(schedules, resnet50, counted, level):
    file, nonzeros, sparse_macs, percent = DEGIRUM[level]
    imported = import_recipe(schedules / file)
    zeros = planned_zeros(resnet50, imported)
    for layer in counted.layers:
        early = EARLY.get(layer.shape, 0) if level == 85 else 0
        expected = ZEROS[layer.shape][level == 85] if layer.shape in ZEROS else early
        if layer.name == "layer2.0.conv1":
            expected = 27_852 if level == 85 else 0
        assert zeros.get(layer.name, 0) == expected, layer.name
    assert sum(layer.weights - zeros.get(layer.name, 0) for layer in counted.layers) == nonzeros
    macs = sum((layer.weights - zeros.get(layer.name, 0)) * layer.positions for layer in counted.layers)
    assert macs == sparse_macs
    assert counted.macs == 4_089_184_256 and counted.weights == 25_502_912
    assert round(100 * sum(zeros.values()) / counted.weights, 5) == percent
    published = imported.provenance
    assert (published.weights, published.nonzeros) == (counted.weights, nonzeros)
    for row in published.layers:
        assert abs(row.weights - zeros.get(row.name, 0) - row.nonzeros) <= 1, row.name


def test_a_masked_network_agrees_with_the_table_of_its_schedule(schedules):
    imported = import_recipe(schedules / DEGIRUM[85][0])
    network = secateur.model("resnet50")
    for part in imported.recipe.stages[1].parts:
        sparsify_(network, part.sparsity, part.pattern, base=part.base, only=part.layers, ties=part.ties)
    check = check_against(imported.provenance, secateur.census(network))
    assert check.agrees, str(check)
    assert check.compared == 54


def test_what_degirum_says_beside_the_schedule(schedules):
    imported = import_recipe(schedules / DEGIRUM[85][0])
    published = imported.provenance
    assert published.accuracy == {"top1": 75.516, "base_top1": 76.15, "top5": 92.718, "base_top5": 92.87}
    assert published.best_epoch == 100 and published.macs == 714e6
    recipe = imported.recipe
    assert (recipe.model.name, recipe.model.weights) == ("resnet50", "pretrained")
    conv, fc = recipe.stages[1].parts
    assert (conv.schedule.start, conv.schedule.end, conv.schedule.every, conv.schedule.initial) == (0, 35, 1, 0.05)
    assert (fc.schedule.start, fc.schedule.end, fc.sparsity, fc.layers) == (1, 35, 0.8, ("fc",))
    training = recipe.stages[1].training
    assert (training.epochs, training.batch_size, training.learning_rate) == (120, 32, 0.001)
    assert (training.decay, training.step_gamma, training.decay_start, training.decay_end) == (
        "exponential",
        0.95,
        40,
        100,
    )
    assert (training.momentum, training.weight_decay, training.nesterov) == (0.9, 1e-4, False)


NETWORKS = {
    "mobilenet.imagenet.schedule_agp.yaml": "mobilenet_v1_100_imagenet",
    "resnet18.schedule_agp.yaml": "resnet18",
    "resnet20_filters.schedule_agp.yaml": "resnet20b_cifar10",
    "resnet50.schedule_agp.1x1x8-blocks.yaml": "resnet50",
    "resnet50.schedule_agp.filters.yaml": "resnet50",
    "resnet50.schedule_agp.yaml": "resnet50",
    "resnet56_cifar_filter_rank.yaml": "resnet56b_cifar10",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_distiller_schedule_becomes_a_stable_recipe(schedules, name):
    imported = import_recipe(schedules / "distiller" / name)
    assert imported.recipe.model.name == NETWORKS[name]
    assert imported.provenance.layers and imported.provenance.nonzeros
    for short in (True, False):
        assert parse_recipe(recipe_to_yaml(imported.recipe, short)) == imported.recipe


@pytest.mark.parametrize("name", ["mobilenet.imagenet.schedule_agp.yaml", "resnet18.schedule_agp.yaml"])
def test_layers_of_single_weight_schedules_lose_what_their_tables_say(schedules, name):
    imported = import_recipe(schedules / "distiller" / name)
    network = secateur.model(imported.recipe.model.name, **imported.recipe.model.options)
    zeros = planned_zeros(network, imported)
    for row in imported.provenance.layers:
        assert abs(row.weights - zeros.get(row.name, 0) - row.nonzeros) <= 1, row.name


def test_blocks_of_1x1x8_lose_what_their_table_says(schedules, resnet50):
    imported = import_recipe(schedules / "distiller" / "resnet50.schedule_agp.1x1x8-blocks.yaml")
    zeros = planned_zeros(resnet50, imported)
    for row in imported.provenance.layers:
        assert row.weights - zeros.get(row.name, 0) == row.nonzeros, row.name


def test_thinned_tables_have_the_filters_that_the_schedule_leaves(schedules):
    """resnet56: 16 filters at .6 leave 7, 64 at .1 and .3 leave 58 and 45 (floor)."""
    imported = import_recipe(schedules / "distiller" / "resnet56_cifar_filter_rank.yaml")
    network = secateur.model("resnet56b_cifar10")
    zeros = planned_zeros(network, imported)
    shapes = {layer.name: layer.shape for layer in secateur.census(network).layers}
    for row in imported.provenance.layers:
        if row.name in zeros:
            shape = shapes[row.name]
            per_filter = shape[1] * shape[2] * shape[3]
            assert shape[0] - zeros[row.name] // per_filter == row.shape[0], row.name
    stages = [stage.stage for stage in imported.recipe.stages]
    assert stages == ["evaluate", "sparsify", "thin", "finetune", "evaluate", "export", "benchmark", "report"]
    assert imported.recipe.stages[1].training.epochs == 0 and imported.recipe.stages[3].training.epochs == 70
