"""PostTrainLinearQuantizer and the flags --quantize-eval, --qe-*."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.importers import import_command, import_text

FILE = """\
quantizers:
  post_train:
    class: PostTrainLinearQuantizer
    bits_activations: 8
    bits_parameters: 6
    bits_accum: 32
    mode: {activations: ASYMMETRIC_UNSIGNED, weights: SYMMETRIC}
    model_activation_stats: stats/resnet18.yaml
    per_channel_wts: True
    clip_acts: N_STD
    clip_n_stds: 2.5
    overrides:
      fc: {bits_parameters: 8, clip_acts: NONE}
      conv1: {bits_activations: null, bits_parameters: null}
"""
BASE = "python compress_classifier.py -a resnet20_cifar ../data "


def stage_of(imported):
    (stage,) = [stage for stage in imported.recipe.stages if stage.stage == "quantize"]
    return stage


def said(imported):
    return "\n".join(map(str, imported.notes))


def test_a_file_that_only_quantizes():
    found = import_text(FILE, "f.yaml", "resnet18", "digits")
    stage = stage_of(found)
    assert (stage.method, stage.bits, stage.activation_bits, stage.activations) == ("ptq", 6, 8, "asymmetric")
    assert (stage.weights, stage.observer, stage.observer_options) == ("channel", "n_std", {"n": 2.5})
    assert stage.layer_bits == {"fc": 8} and stage.float_layers == ("conv1",)
    assert stage.guard is None and not stage.correct_bias
    assert "f.yaml:8: ranges are observed on calibration images" in said(found)
    assert [s.stage for s in found.recipe.stages][:2] == ["evaluate", "quantize"]


ORDERED = """\
quantizers:
  q:
    class: PostTrainLinearQuantizer
    bits_parameters: 4
    overrides:
      conv1: {bits_parameters: 8, bits_activations: 8}
      fc: {bits_activations: 6}
      .*: {bits_parameters: null, bits_activations: null}
"""


def test_the_first_override_that_fits_counts():
    found = import_text(ORDERED, "f.yaml", "resnet20b_cifar10", "digits")
    stage = stage_of(found)
    assert stage.bits == 4 and stage.layer_bits == {"conv1": 8}
    assert len(stage.float_layers) == 20 and not {"conv1", "fc"} & set(stage.float_layers)
    assert "f.yaml:7: the activations of 'fc' have 6 bits there; here all activations have the same, 8" in said(found)


def test_an_order_that_cannot_be_said_of_an_unknown_network_is_refused():
    with pytest.raises(RecipeError, match=r"f.yaml:8: 'conv1' goes before '\.\*', which keeps layers float"):
        import_text(ORDERED, "f.yaml", "densenet121", "digits")


def test_globs_of_an_unknown_network_keep_their_order():
    text = ORDERED.replace(".*: {bits_parameters: null, bits_activations: null}", "f.*: {bits_parameters: 6}")
    stage = stage_of(import_text(text, "f.yaml", "densenet121", "digits"))
    assert list(stage.layer_bits.items()) == [("f*", 6), ("fc", 4), ("conv1", 8)]  # the last that fits counts


def test_expressions_without_a_glob_need_a_known_network():
    text = ORDERED.replace("conv1:", r"layer\d+.\d.conv1:")
    assert len(stage_of(import_text(text, "f.yaml", "resnet20b_cifar10", "digits")).layer_bits) == 9
    with pytest.raises(RecipeError, match=r"f.yaml:6: .* more than a glob can say, and the layers of this network"):
        import_text(text, "f.yaml", "densenet121", "digits")


def test_an_override_of_nothing_is_noted():
    text = ORDERED.replace("conv1:", "features.0:")
    found = import_text(text, "f.yaml", "resnet20b_cifar10", "digits")
    assert "f.yaml:6: 'features.0' fits no layer with weights" in said(found) and not stage_of(found).layer_bits


def test_float_activations_have_no_ranges():
    text = ORDERED.replace("bits_parameters: 4", "bits_activations: null")
    stage = stage_of(import_text(text, "f.yaml", "resnet20b_cifar10", "digits"))
    assert stage.compute == "float" and len(stage.float_layers) == 20


def test_half_precision():
    text = "quantizers: {q: {class: PostTrainLinearQuantizer, fp16: True}}\n"
    assert stage_of(import_text(text, "f.yaml", "resnet18", "digits")).numbers == "fp16"


def test_flags():
    stage = stage_of(import_command(BASE + "-e --quantize-eval --qe-mode asym_u"))
    assert (stage.bits, stage.activations, stage.weights, stage.observer) == (8, "asymmetric", "tensor", "minmax")
    command = BASE + (
        "-e --quantize-eval --qe-mode-acts asym_s --qe-bits-wts 4 --qe-clip-acts gauss --qe-per-channel "
        "--qe-no-quant-layers module.conv1 fc --qe-stats-file s.yaml"
    )
    found = import_command(command)
    stage = stage_of(found)
    assert (stage.bits, stage.activations, stage.weights, stage.observer) == (4, "signed", "channel", "gauss")
    assert stage.float_layers == ("conv1", "fc") and "'qe-stats-file' is not imported" in said(found)
    assert stage_of(import_command(BASE + "-e --quantize-eval --qe-dynamic")).compute == "dynamic"


def test_after_a_training_and_by_a_file(tmp_path):
    stages = [s.stage for s in import_command(BASE + "--epochs 2 --quantize-eval").recipe.stages]
    assert stages[:2] == ["train", "quantize"]
    path = tmp_path / "q.yaml"
    path.write_text(FILE)
    assert stage_of(import_command(BASE + f"-e --quantize-eval --qe-config-file {path}")).bits == 6


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--quantize-eval --qe-mode asymu", "Did you mean 'asym_u'?"),
        ("--quantize-eval --qe-config-file none.yaml", "--qe-config-file: none.yaml"),
        ("--quantize-eval --qe-bits-wts 1", "is 2 to 8, or 32 for float, not 1"),
        ("--quantize-eval --qe-bit-wts 8", "Did you mean 'qe-bits-wts'?"),
    ],
)
def test_faults_are_sentences(flags, words):
    with pytest.raises(RecipeError) as caught:
        import_command(BASE + flags)
    assert words in str(caught.value)


def test_the_published_line_of_a_schedule():
    text = """\
# Quantization: python compress_classifier.py -a resnet50 ../data --evaluate --quantize-eval --qe-mode asym_u
# compress_classifier.py -a resnet20_cifar --epochs=2 --lr=0.1 --pretrained ../data
pruners: {p: {class: SparsityLevelParameterPruner, levels: {module.layer1.0.conv1.weight: 0.5}}}
policies:
  - {pruner: {instance_name: p}, epochs: [0]}
"""
    recipe = import_text(text, "f.yaml").recipe
    assert [stage.stage for stage in recipe.stages][:3] == ["evaluate", "sparsify", "quantize"]
    assert recipe.stages[2].activations == "asymmetric" and recipe.model.name == "resnet20b_cifar10"
