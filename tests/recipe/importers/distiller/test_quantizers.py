"""Quantizers of schedules, in training."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.importers import import_text

HEADER = "# compress_classifier.py -a resnet20_cifar --epochs 6 --lr 0.1 --pretrained ../data\n"
POLICY = "  - {quantizer: {instance_name: q}, starting_epoch: %d, ending_epoch: 6, frequency: 1}\n"


def schedule(quantizer, start=0, more="", policies=""):
    return f"{HEADER}quantizers:\n  q:\n{quantizer}{more}policies:\n{policies}{POLICY % start}"


def keys(**values):
    return "".join(f"    {key}: {value}\n" for key, value in values.items())


def imported(text):
    return import_text(text, "f.yaml")


def stages(text):
    return {stage.stage: stage for stage in imported(text).recipe.stages}


def said(text):
    return "\n".join(map(str, imported(text).notes))


def test_range_linear_as_published():
    text = schedule(
        keys(
            **{"class": "QuantAwareTrainRangeLinearQuantizer"},
            bits_activations=8, bits_weights=8, mode="ASYMMETRIC_UNSIGNED", ema_decay=0.99, per_channel_wts=True,
        )
    )  # fmt: skip
    stage = stages(text)["quantize"]
    assert (stage.method, stage.qat.scheme, stage.training.epochs, stage.training.keep) == (
        "qat", "range_linear", 6, "best_top1",
    )  # fmt: skip
    assert (stage.qat.weight_bits, stage.qat.activation_bits, stage.qat.weight_mode) == (8, 8, "asym_u")
    assert (stage.qat.decay, stage.qat.per_channel) == (0.99, True)


def test_dorefa_with_the_first_and_last_layer_float():
    text = schedule(
        keys(
            **{"class": "DorefaQuantizer"},
            bits_activations=8, bits_weights=3,
            overrides="{conv1: {bits_weights: null, bits_activations: null}, fc: {bits_weights: null}}",
        )
    )  # fmt: skip
    qat = stages(text)["quantize"].qat
    assert (qat.scheme, qat.weight_bits) == ("dorefa", 3)
    assert qat.overrides["conv1"].weights is None and "activations" not in qat.overrides["fc"].model_fields_set


def test_overrides_say_everything_about_what_they_fit_first():
    overrides = "{layer1.0.conv2: {bits_weights: 6}, 'layer1.*': {bits_activations: null}, fc: {bits_weights: 4}}"
    quantizer = keys(**{"class": "DorefaQuantizer"}, bits_activations=8, bits_weights=3, overrides=overrides)
    found = stages(schedule(quantizer))["quantize"].qat.overrides
    assert (found["layer1.0.conv2"].weights, found["layer1.0.conv2"].activations) == (6, 8)
    assert list(found) == ["layer1.0.conv2", "layer1*", "fc"] and found["fc"].model_fields_set == {"weights"}


def test_pact_and_wrpn():
    pact = keys(
        **{"class": "PACTQuantizer"}, bits_weights=4, bits_activations=4, act_clip_init_val=6.0, act_clip_decay=2e-4
    )
    qat = stages(schedule(pact))["quantize"].qat
    assert (qat.scheme, qat.clip, qat.clip_decay) == ("pact", 6.0, 2e-4)
    wrpn = keys(**{"class": "WRPNQuantizer"}, bits_weights=4, bits_activations=32)
    qat = stages(schedule(wrpn))["quantize"].qat
    assert (qat.scheme, qat.activation_bits) == ("wrpn", None)


def test_inputs_have_bits_of_their_own():
    range_linear = {"class": "QuantAwareTrainRangeLinearQuantizer", "bits_weights": 8, "bits_activations": 8}
    qat = stages(schedule(keys(**range_linear, quantize_inputs=False)))["quantize"].qat
    assert qat.overrides["input"].activations is None
    qat = stages(schedule(keys(**range_linear, num_bits_inputs=6)))["quantize"].qat
    assert qat.overrides["input"].activations == 6


PRUNER = "pruners: {p: {class: SparsityLevelParameterPruner, levels: {module.layer1.0.conv1.weight: 0.5}}}\n"
DOREFA = keys(**{"class": "DorefaQuantizer"}, bits_weights=4, bits_activations=4)


def test_first_pruned_then_quantized():
    policy = "  - {pruner: {instance_name: p}, epochs: [0]}\n"
    found = imported(schedule(DOREFA, 2, PRUNER, policy)).recipe.stages
    assert [stage.stage for stage in found[:3]] == ["evaluate", "sparsify", "quantize"]
    assert (found[1].training.epochs, found[2].training.epochs) == (2, 4)


def test_pruning_while_quantizing_is_refused():
    policy = "  - {pruner: {instance_name: p}, epochs: [3]}\n"
    with pytest.raises(
        RecipeError, match=r"f.yaml:9: 'p' removes weights in epoch 3, where 'q' quantizes since epoch 2"
    ):
        imported(schedule(DOREFA, 2, PRUNER, policy))


def test_notes():
    assert "its layers of 8 bits stay float" in said(schedule(keys(**{"class": "DorefaQuantizer"}, bits_weights=8)))
    assert "weights get 8 bits" in said(schedule(keys(**{"class": "WRPNQuantizer"}, bits_activations=4)))
    short = schedule(DOREFA).replace("ending_epoch: 6", "ending_epoch: 4")
    assert "'q' quantizes to the end of the run, not to epoch 4" in said(short)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (schedule(DOREFA.replace("Dorefa", "Dorrefa")), "f.yaml:4: unknown class 'DorrefaQuantizer'"),
        (schedule(keys(**{"class": "WRPNQuantizer"}, bits_weigths=4)), "unknown key 'bits_weigths' in quantizer 'q'"),
        (schedule(keys(**{"class": "WRPNQuantizer"}, bits_weights=16)), "2 to 8, or 32 for float, not 16"),
        (schedule(keys(**{"class": "PostTrainLinearQuantizer"})), "it needs no policy"),
        (schedule(DOREFA, policies=POLICY % 0), "a schedule quantizes once"),
    ],
)
def test_faults_are_sentences(text, words):
    with pytest.raises(RecipeError) as caught:
        imported(text)
    assert words in str(caught.value)
