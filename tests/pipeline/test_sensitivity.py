"""One-layer sensitivity: what is measured, what stays untouched, killed and resumed, foreign folders."""

import copy
import json
import shutil

import pytest
import torch

from secateur import zoo
from secateur.errors import ArtifactError, DataError, RecipeError, SparsityError
from secateur.pipeline import sensitivity
from secateur.pipeline.sensitivity import SensitivitySettings, analyse_sensitivity
from secateur.sparsity import SensitivityTable, make_mask, parse_pattern
from secateur.training import evaluate
from tiny_networks import images, network

SETTINGS = SensitivitySettings(levels=(0.5, 0.9), images=24, batch_size=16)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    return network().eval()


def test_every_row_is_the_network_with_one_layer_pruned(trained, tmp_path):
    before = copy.deepcopy(trained.state_dict())
    table = analyse_sensitivity(trained, images(), tmp_path, SETTINGS)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert table.layers == ("stem", "body", "depthwise", "point", "classifier")
    assert [row.level for row in table.rows if row.layer == "body"] == [0.0, 0.5, 0.9]
    by_hand = copy.deepcopy(trained)
    mask = make_mask(by_hand.body.weight.detach().abs(), parse_pattern("unstructured"), 0.9)
    by_hand.body.weight.data *= mask
    expected = evaluate(by_hand, images(), trained.preprocessing, limit=24)
    row = next(row for row in table.rows if row.layer == "body" and row.level == 0.9)
    assert row.top1 == pytest.approx(expected.top1) and row.top5 == pytest.approx(expected.top5)
    assert row.loss == pytest.approx(expected.loss, rel=1e-5)
    assert row.sparsity == pytest.approx(1 - mask.float().mean().item())
    assert table.dense.top1 == pytest.approx(evaluate(trained, images(), trained.preprocessing, limit=24).top1)
    batches = [b for b, _ in zoo.loader(images(), "test", trained.preprocessing, batch_size=24, limit=24)]
    with torch.no_grad():
        y, pruned = trained(batches[0]), by_hand(batches[0])
    assert row.output_error == pytest.approx(float((y - pruned).square().sum() / y.square().sum()), rel=1e-4)


def test_the_files_hold_the_table(trained, tmp_path):
    table = analyse_sensitivity(trained, images(), tmp_path, SETTINGS)
    assert SensitivityTable.read(tmp_path / "sensitivity.json") == table
    lines = (tmp_path / "sensitivity.csv").read_text().splitlines()
    assert lines[0] == "layer,level,sparsity,top1,top5,loss,output_error" and len(lines) == 2 + 5 * 3


def test_a_killed_analysis_goes_on_at_the_next_layer_and_gives_the_same(trained, tmp_path, monkeypatch):
    whole = analyse_sensitivity(trained, images(), tmp_path / "whole", SETTINGS)
    real, asked = sensitivity._pruned, []

    def killed(subject, scorer, layer, level, settings):
        asked.append((layer.name, level))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(subject, scorer, layer, level, settings)

    monkeypatch.setattr(sensitivity, "_pruned", killed)
    with pytest.raises(KeyboardInterrupt):
        analyse_sensitivity(trained, images(), tmp_path / "killed", SETTINGS)
    assert [path.name for path in (tmp_path / "killed" / "layers").iterdir()] == ["000.json"]
    asked[:] = [None] * 10
    assert analyse_sensitivity(trained, images(), tmp_path / "killed", SETTINGS) == whole
    assert asked[10] == ("body", 0.5) and ("stem", 0.5) not in asked
    asked.clear()
    assert analyse_sensitivity(trained, images(), tmp_path / "killed", SETTINGS) == whole
    assert asked == []


def test_a_layer_file_that_is_damaged_is_measured_again(trained, tmp_path):
    whole = analyse_sensitivity(trained, images(), tmp_path, SETTINGS)
    layers = sorted((tmp_path / "layers").iterdir())
    layers[0].write_text("{")
    layers[1].write_text(json.dumps({"layer": "body", "rows": [{"layer": "body"}]}))
    shutil.copy(layers[3], layers[2])  # of another layer
    assert analyse_sensitivity(trained, images(), tmp_path, SETTINGS) == whole


def test_a_folder_of_something_else_is_left_alone(trained, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match=r"holds other files \(thesis\.txt\)"):
        analyse_sensitivity(trained, images(), tmp_path, SETTINGS)
    analyse_sensitivity(trained, images(), tmp_path, SETTINGS, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("change", ["weights", "settings", "images"])
def test_another_network_image_or_setting_is_another_analysis(trained, tmp_path, change):
    settings = SensitivitySettings(levels=(0.5,), images=8, only=("point",))
    analyse_sensitivity(trained, images(), tmp_path, settings)
    other, changed, others = copy.deepcopy(trained), settings, images()
    if change == "weights":
        other.classifier.bias.data[0] += 1
    elif change == "settings":
        changed = SensitivitySettings(levels=(0.5,), images=8, only=("point",), criterion="random")
    else:
        others.test.pixels[0, 0, 0, 0] ^= 8
    with pytest.raises(ArtifactError, match="another network, other images or other settings"):
        analyse_sensitivity(other, others, tmp_path, changed)
    fresh = analyse_sensitivity(other, others, tmp_path / "new", changed)
    assert analyse_sensitivity(other, others, tmp_path, changed, overwrite=True) == fresh


def test_without_labels_there_is_the_output_error(tmp_path):
    """A network with fewer outputs than the images have classes: its labels are never looked at."""
    other = network(classes=2).eval()
    settings = SensitivitySettings(levels=(0.5,), images=8, measure="output_error", only=("body",))
    table = analyse_sensitivity(other, images(), tmp_path, settings)
    assert table.rows[1].top1 is None and table.costs("body")[0.5] > 0
    with pytest.raises(DataError, match="but an image has label"):
        analyse_sensitivity(other, images(), tmp_path / "b", SensitivitySettings(levels=(0.5,), images=24))


@pytest.mark.parametrize(("pattern", "levels"), [("filter", (0.0, 0.5)), ("channel", (0.0, 0.5)), ("2:4", (0.0, 0.5))])
def test_structures_and_patterns_with_one_level(trained, tmp_path, pattern, levels):
    settings = SensitivitySettings(pattern=pattern, levels=(0.5,), images=8)
    table = analyse_sensitivity(trained, images(), tmp_path, settings)
    assert {row.level for row in table.rows} == set(levels)
    assert "depthwise" in table.skipped and "point" in table.layers
    point = next(row for row in table.rows if row.layer == "point" and row.level == 0.5)
    assert point.sparsity == pytest.approx(0.5)


def test_levels_of_a_pattern_with_one_level_do_not_count_and_that_is_said(trained, tmp_path, capfd):
    settings = SensitivitySettings(pattern="2:4", levels=(0.2, 0.4), images=8, only=("point",))
    table = analyse_sensitivity(trained, images(), tmp_path, settings)
    assert {row.level for row in table.rows} == {0.0, 0.5}
    assert "2:4 has one level, 0.5; the levels that were given do not count" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"levels": (0.0,)}, SparsityError),
        ({"levels": (1.5,)}, SparsityError),
        ({"pattern": "1x99"}, SparsityError),
        ({"criterion": "magnitud"}, RecipeError),
        ({"images": 0}, SparsityError),
    ],
)
def test_settings_that_make_no_sense_are_sentences(settings, error):
    with pytest.raises(error, match=r"\.$"):
        SensitivitySettings(**settings)
