"""PocketFlow's learners that quantize."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.importers import import_command

CIFAR = "python nets/resnet_at_cifar10_run.py --learner "


def said(imported):
    return "\n".join(map(str, imported.notes))


def stage_of(command):
    (stage,) = [s for s in import_command(CIFAR + command).recipe.stages if s.stage == "quantize"]
    assert stage.method == "qat"
    return stage


def test_uniform_has_the_defaults_of_the_source():
    stage = stage_of("uniform")
    assert (stage.qat.scheme, stage.qat.weight_bits, stage.qat.activation_bits) == ("uniform", 4, None)
    assert (stage.qat.bucket, stage.qat.include_first, stage.qat.include_classifier) == ("layer", False, False)
    assert (stage.training.epochs, stage.training.decay) == (60, "constant")
    assert stage.training.learning_rate == pytest.approx(1e-3)
    assert "rates for this learner are not flags" in said(import_command(CIFAR + "uniform"))


def test_uniform_with_everything():
    stage = stage_of(
        "uniform --uql_weight_bits 3 --uql_activation_bits 8 --uql_use_buckets --uql_bucket_type split "
        "--uql_bucket_size 128 --uql_quant_epochs 150 --uql_quantize_all_layers --enbl_dst"
    )
    qat = stage.qat
    assert (qat.weight_bits, qat.activation_bits, qat.bucket, qat.bucket_size) == (3, 8, "split", 128)
    assert qat.include_first and qat.include_classifier
    assert stage.training.epochs == 150 and stage.training.step_epochs == (100,)
    assert stage.distillation.form == "cross_entropy"
    assert stage_of("uniform --uql_use_buckets").qat.bucket == "channel"


def test_the_search_for_bits_is_noted():
    text = said(import_command(CIFAR + "uniform --uql_enbl_rl_agent --uql_equivalent_bits 5 --uql_w_bit_min 3"))
    assert "mixed: {budget: 5}" in text


def test_code_books():
    qat = stage_of("non-uniform --nuql_opt_mode clusters --nuql_init_style uniform --nuql_weight_bits 2").qat
    assert (qat.scheme, qat.trained, qat.centres, qat.weight_bits) == ("codebook", "centres", "uniform", 2)


def test_tensorflow():
    stage = stage_of("uniform-tf")
    qat = stage.qat
    assert (qat.scheme, qat.weight_bits, qat.activation_bits, qat.quant_delay) == ("tensorflow", 8, 8, 0)
    assert qat.freeze_bn_delay == 10**9 and stage.training.epochs == 250
    assert stage.training.learning_rate == pytest.approx(1e-3)
    stage = stage_of("uniform-tf --uqtf_quant_delay 100 --uqtf_freeze_bn_delay 300 --uqtf_lrn_rate_dcy 0.1")
    assert (stage.qat.quant_delay, stage.qat.freeze_bn_delay) == (100, 300)
    assert stage.training.learning_rate == pytest.approx(1e-2)
    assert stage_of("uniform-tf --uqtf_freeze_bn_delay None").qat.freeze_bn_delay == 10**9


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("uniform --uql_weight_bit 4", "unknown flag 'uql_weight_bit' in the command. Did you mean 'uql_weight_bits'?"),
        ("uniform --uql_weight_bits 1", "is from 2 to 8"),
        ("uniform --uql_activation_bits 16", "'uql_activation_bits' is 2 to 8, or 32 for float, not 16"),
        ("non-uniform --nuql_opt_mode cluster", "Did you mean 'clusters'?"),
    ],
)
def test_faults_are_sentences(command, words):
    with pytest.raises(RecipeError) as caught:
        import_command(CIFAR + command)
    assert words in str(caught.value)
