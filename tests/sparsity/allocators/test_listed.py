"""Levels that are given: totals of the published tables, to the last digit."""

import pytest

from secateur.errors import SparsityError
from secateur.sparsity import allocate, layers_of, total_sparsity

TARGETS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
ACHIEVED = (0.099903, 0.200768, 0.300756, 0.399304, 0.500603, 0.599159, 0.699426, 0.799983, 0.900667, 0.949203)
# ALGORITHMS.md L11: percent at every target.
RESNET18 = {
    "conv1": (18, 27, 35, 42, 50, 57, 64, 70, 77, 81),
    "layer1.0.conv1": (18, 26, 34, 42, 50, 58, 66, 74, 82, 87),
    "layer1.0.conv2": (8, 15, 22, 30, 37, 45, 53, 62, 71, 77),
    "layer1.1.conv1": (7, 15, 22, 30, 38, 45, 53, 62, 71, 77),
    "layer1.1.conv2": (7, 14, 21, 28, 36, 43, 51, 59, 68, 74),
    "layer2.0.conv1": (8, 15, 23, 30, 38, 46, 54, 63, 72, 78),
    "layer2.0.conv2": (9, 18, 27, 36, 45, 54, 63, 72, 82, 87),
    "layer2.0.downsample.0": (8, 16, 25, 32, 41, 49, 58, 66, 76, 81),
    "layer2.1.conv1": (9, 17, 26, 34, 43, 52, 61, 70, 80, 86),
    "layer2.1.conv2": (8, 17, 25, 33, 42, 50, 59, 68, 78, 84),
    "layer3.0.conv1": (9, 17, 26, 34, 43, 52, 61, 70, 79, 85),
    "layer3.0.conv2": (10, 19, 29, 38, 48, 57, 67, 77, 87, 92),
    "layer3.0.downsample.0": (9, 17, 26, 34, 43, 52, 61, 70, 79, 85),
    "layer3.1.conv1": (9, 19, 28, 37, 47, 56, 66, 75, 86, 91),
    "layer3.1.conv2": (9, 18, 28, 37, 46, 55, 65, 75, 85, 91),
    "layer4.0.conv1": (9, 18, 27, 36, 46, 55, 64, 74, 84, 90),
    "layer4.0.conv2": (10, 21, 31, 42, 52, 62, 73, 83, 93, 98),
    "layer4.0.downsample.0": (9, 19, 28, 37, 47, 56, 65, 75, 85, 91),
    "layer4.1.conv1": (10, 21, 31, 41, 51, 62, 72, 82, 93, 98),
    "layer4.1.conv2": (11, 21, 32, 42, 53, 63, 73, 84, 94, 98),
    "fc": (12, 23, 35, 47, 59, 70, 81, 91, 98, 99),
}


@pytest.mark.parametrize("index", range(10))
def test_the_published_tables_add_up_to_what_they_say(resnet, index):
    layers = layers_of(resnet(18))
    levels = {name: percent[index] / 100 for name, percent in RESNET18.items()}
    found = allocate(layers, None, "listed", given=levels)
    assert f"{found.achieved:.6f}" == f"{ACHIEVED[index]:.6f}"
    assert found.levels == levels and found.skipped == {}
    assert total_sparsity(layers, levels) == found.achieved
    # the target itself is within the published tolerance
    assert allocate(layers, ACHIEVED[index], "listed", given=levels).levels == levels


def test_layers_that_are_not_listed_stay_dense_with_a_reason(resnet):
    found = allocate(layers_of(resnet(18)), None, "listed", given={"conv1": 0.5}, base="selected")
    assert found.achieved == 0.5 and len(found.skipped) == 20
    assert set(found.skipped.values()) == {"not in the list of levels"}


def test_a_target_that_the_list_does_not_meet_is_an_error(resnet):
    with pytest.raises(SparsityError, match=r"listed adds up to 0\.0004 .* not to 0\.5; leave the target out"):
        allocate(layers_of(resnet(18)), 0.5, "listed", given={"conv1": 0.5})
