"""Comments of a schedule: what they say is read, what they do not say is left open."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.recipe.importers.distiller.header import read_header

LOG = """\
# Baseline results:
#     Top1: 91.780    Top5: 99.710    Loss: 0.376
#     Total MACs: 40,813,184
# Results:
#     Top1: 91.34
#     Total MACs: 30,655,104
# time python3 compress_classifier.py --arch resnet20_cifar DATA --epochs=180
# 2018-12-24 13:52:24,645 - |  0 | module.conv1.weight | (16, 3, 3, 3) |  432 | 400 |  0.0 |
# |  1 | module.fc.weight    | (10, 64) |  640 | 320 |  0.0 |
# |  2 | Total sparsity:     | -        | 1072 | 720 |  0.0 |
#  ==> Best [Top1: 91.340   Top5: 99.670   Sparsity:46.32   NNZ-Params: 120000 on epoch: 127]
version: 1
"""


def test_everything_that_a_log_says():
    header = read_header(LOG)
    assert header.command == (7, "compress_classifier.py --arch resnet20_cifar DATA --epochs=180")
    assert [(r.name, r.shape, r.weights, r.nonzeros) for r in header.layers] == [
        ("module.conv1.weight", (16, 3, 3, 3), 432, 400),
        ("module.fc.weight", (10, 64), 640, 320),
    ]
    assert (header.weights, header.nonzeros, header.macs, header.best_epoch) == (1072, 720, 30_655_104, 127)
    assert header.accuracy == {"base_top1": 91.78, "base_top5": 99.71, "top1": 91.34}


@pytest.mark.parametrize(
    ("line", "macs"),
    [
        ("# Ideal Number of MACS: 0.714 Billion", 0.714e9),
        ("# Total MACs: 1,822,031,872 (of 4,089,184,256)", 1_822_031_872),
        ("#     Total MACs: 78,856,832  (=1.59x less MACs)", 78_856_832),
    ],
)
def test_macs(line, macs):
    assert read_header(line).macs == macs


@pytest.mark.parametrize(
    "line", ["# Best epoch (100)", "# Best Top1: 75.5 (epoch 100)", "# ==> Best Top1: 7 on Epoch: 100"]
)
def test_best_epoch(line):
    assert read_header(line).best_epoch == 100


def test_the_best_of_a_list_of_epochs():
    text = "# ==> Best Top1: 75.0 on Epoch: 0\n# ==> Best Top1: 76.0 on Epoch: 7\n# ==> Best Top1: 74 on Epoch: 9\n"
    assert read_header(text).best_epoch == 7


def test_values_of_the_file_itself_are_no_comments():
    header = read_header(LOG.replace("#", ""))
    assert header.command is None and not header.layers


def test_huge_numbers_are_no_trouble():
    header = read_header(f"# |  0 | a | ({'9' * 9000}, 3) | {'9' * 9000} | 1 |\n# Total MACs: {'9' * 400}\n")
    assert header.layers[0].weights > 0


@given(st.text("#|()[] Top15:.0-9,MACsBetpoch=>\n", max_size=200))
@settings(deadline=None)
def test_any_comment_is_read_or_passed_over(text):
    read_header(f"# {text}")
