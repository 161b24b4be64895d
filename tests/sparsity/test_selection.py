"""Which layers are pruned: defaults with switches, globs, reasons."""

import pytest
import torch
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import BlockOf, layers_of, masks, select_layers, sparsify_


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 1),
        nn.Conv2d(6, 2, 1),
        nn.ConvTranspose2d(2, 8, 2),
        nn.Flatten(),
        nn.Linear(8, 8),
        nn.Linear(8, 4),
    )


def test_first_depthwise_and_classifier_stay_dense_by_default():
    selection = select_layers(network(), "unstructured")
    assert selection.chosen == ("2", "3", "4", "6")
    assert selection.skipped == {"0": "first convolution", "1": "depthwise", "7": "classifier"}


@pytest.mark.parametrize(
    ("switch", "name"), [("include_first", "0"), ("include_depthwise", "1"), ("include_classifier", "7")]
)
def test_each_default_has_a_switch(switch: str, name: str):
    assert name in select_layers(network(), "unstructured", **{switch: True}).chosen


def test_depthwise_transposed_layers_are_depthwise():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 2, groups=8), nn.Conv2d(8, 8, 1), nn.Linear(8, 2)
    )
    assert select_layers(model, "unstructured").skipped["1"] == "depthwise"
    assert "1" in select_layers(model, "unstructured", include_depthwise=True).chosen
    skipped = select_layers(model, "unstructured", include_depthwise=True, exclude_kinds=["depthwise"]).skipped
    assert skipped["1"].startswith("excluded")


def test_what_the_pattern_cannot_do_is_a_reason():
    selection = select_layers(network(), BlockOf(4), include_depthwise=True)
    assert selection.chosen == ("2", "4", "6")
    assert "does not apply to depthwise" in selection.skipped["1"]
    assert "at least 4 output channels, it has 2" in selection.skipped["3"]


def test_small_layers():
    assert select_layers(network(), min_weights=50).skipped["2"] == "fewer than 50 weights"


def test_globs_exclude_and_a_leading_module_is_ignored():
    model = nn.Module()
    model.layer1 = network()
    model.head = nn.Linear(4, 2)
    selection = select_layers(model, exclude=["module.layer1.[23]", "head"])
    assert selection.skipped["layer1.2"] == "excluded by 'module.layer1.[23]'"
    assert selection.chosen == ("layer1.4", "layer1.6", "layer1.7")


def test_include_beats_the_defaults_and_exclude_beats_include():
    selection = select_layers(network(), include=["0", "7"], exclude=["7"])
    assert "0" in selection.chosen and "7" in selection.skipped


def test_a_glob_that_matches_nothing_is_an_error_with_the_nearest_name(resnet):
    with pytest.raises(SparsityError, match=r"'layer4\.0\.conv9'\. Did you mean 'layer4\.0\.conv"):
        select_layers(resnet(18), exclude=["layer4.0.conv9"])


def test_classifier_is_the_last_convolution_where_nothing_is_linear():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 10, 1))
    assert select_layers(model).skipped == {"0": "first convolution", "2": "classifier"}


def test_a_network_without_convolution_has_no_first_one():
    selection = select_layers(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)))
    assert selection.chosen == ("0",)


def test_no_layer_at_all():
    with pytest.raises(SparsityError, match="nothing to prune"):
        select_layers(nn.Sequential(nn.ReLU()))


def test_shared_tensors_are_one_layer():
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    layers = layers_of(nn.Sequential(one, other, nn.Linear(4, 2)))
    assert [(layer.name, layer.shared) for layer in layers] == [("0", ("1",)), ("2", ())]
    assert select_layers(nn.Sequential(one, other, nn.Linear(4, 2)), exclude=["1"]).skipped["0"]


def test_resnet50_defaults(resnet):
    selection = select_layers(resnet(50), "1x4")
    assert len(selection.chosen) == 52
    assert selection.skipped == {"conv1": "first convolution", "fc": "classifier"}


def test_only_the_layers_that_are_named_and_a_full_name_lifts_the_defaults():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4))
    found = select_layers(model, only=["module.0", "2"])
    assert found.chosen == ("0", "2")
    assert found.skipped == {"1": "not among the layers named", "3": "not among the layers named"}
    assert select_layers(model, only=["*"]).chosen == ("1", "2")
    with pytest.raises(SparsityError, match="unknown layer or glob 'conv'"):
        select_layers(model, only=["conv"])


def test_kinds_are_excluded_and_unknown_ones_are_errors():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 8), nn.Linear(8, 4))
    found = select_layers(model, include_first=True, include_depthwise=True, exclude_kinds=["linear", "depthwise"])
    assert found.chosen == ("0",)
    assert found.skipped == {"1": "excluded: depthwise", "2": "excluded: linear", "3": "excluded: linear"}
    with pytest.raises(SparsityError, match=r"unknown kind of layer 'dense'"):
        select_layers(model, exclude_kinds=["dense"])


def test_names_as_other_systems_write_them():
    model = nn.Module()
    model.layer1 = network()
    model.head = nn.Linear(4, 2)
    for name in ("layer1.2", "module.layer1.2", "layer1.2.weight", "module.layer1.2.weight"):
        assert select_layers(model, exclude=[name]).skipped["layer1.2"] == f"excluded by '{name}'"
        assert select_layers(model, only=[name]).chosen == ("layer1.2",)


def test_a_part_of_a_name_excludes_all_that_have_it(resnet):
    selection = select_layers(resnet(18), exclude=["downsample"])
    assert [name for name, reason in selection.skipped.items() if reason == "excluded by 'downsample'"] == [
        f"layer{stage}.0.downsample.0" for stage in (2, 3, 4)
    ]


def test_a_name_in_full_is_no_part_of_others(resnet):
    assert "layer1.0.conv1" in select_layers(resnet(18), exclude=["conv1"]).chosen


def test_parts_of_names_only_exclude():
    with pytest.raises(SparsityError, match="unknown layer or glob"):
        select_layers(nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 4)), only=["0."])


@pytest.mark.parametrize(
    ("kind", "names"), [("first", {"0"}), ("last", {"7"}), ("linear", {"6", "7"}), ("conv", {"0", "2", "3"})]
)
def test_exclusion_by_kind_is_stronger_than_the_switches(kind, names):
    switches = {"include_first": True, "include_depthwise": True, "include_classifier": True}
    assert set(select_layers(network(), exclude_kinds=[kind], **switches).skipped) == names


def test_a_classifier_is_pruned_as_a_1x1_convolution():
    torch.manual_seed(0)
    linear, convolution = nn.Linear(8, 12, bias=False), nn.Conv2d(8, 12, 1, bias=False)
    convolution.weight.data = linear.weight.data[:, :, None, None].clone()
    found = []
    for layer in (linear, convolution):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), layer)
        sparsify_(model, 0.5, "1x4", base="selected", include_classifier=True)
        found.append(masks(model)["1"].reshape(12, 8))
    assert torch.equal(*found) and int(found[0].sum()) == 48
