"""Distiller's quantization after training: PostTrainLinearQuantizer, as a section of a file or by flags.

--quantize-eval --qe-mode asym_u --qe-bits-wts 8 --qe-clip-acts avg --qe-config-file FILE
"""

from pathlib import Path
from typing import Any

from secateur.errors import RecipeError
from secateur.recipe.document import parse_document, read_text
from secateur.recipe.importers.distiller.bits import (
    FLOAT_BITS,
    MODES,
    bits_of,
    mode_of,
    names_fitting,
    overrides_of,
)
from secateur.recipe.importers.distiller.overridden import after_training
from secateur.recipe.importers.distiller.quantizers import POST_TRAINING, instance_of
from secateur.recipe.importers.reading import Fields, Reading

CLIPPING = {"NONE": "minmax", "AVG": "average", "N_STD": "n_std", "GAUSS": "gauss", "LAPLACE": "laplace"}
FLAG_MODES = {
    "sym": "SYMMETRIC",
    "sym_restr": "SYMMETRIC_RESTRICTED",
    "asym_u": "ASYMMETRIC_UNSIGNED",
    "asym_s": "ASYMMETRIC_SIGNED",
}
_ACTIVATIONS = {"sym_full": "symmetric", "sym": "symmetric", "asym_u": "asymmetric", "asym_s": "signed"}
# Keys of activations whose ranges are known beforehand.
_OBSERVED = ("activation_bits", "activations", "observer", "observer_options", "guard")
_OWN_WAY = (
    *("model_activation_stats", "scale_approx_mult_bits", "fpq_module", "clip_half_range", "also_clip_weights"),
    "inputs_quant_auto_fallback",
)


def post_training_stages(reading: Reading, arch: str | None) -> list[dict[str, Any]]:
    """Stages of the quantizers of a file that act after training; none where there are none. raises RecipeError."""
    section = reading.document.value.get("quantizers")
    if not isinstance(section, dict):
        return []
    stages: list[dict[str, Any]] = []
    for instance in section:
        fields = instance_of(reading, str(instance))
        if fields.text("class") == POST_TRAINING:
            stages.append(_stage(fields, arch))
    if len(stages) > 1:
        reading.fail(("quantizers",), "a network is quantized once; leave one of the quantizers.")
    return stages


def _stage(fields: Fields, arch: str | None) -> dict[str, Any]:
    activations, weights = mode_of(fields, "SYMMETRIC")
    stage = _common(
        fields,
        bits_of(fields, "bits_parameters", 8),
        bits_of(fields, "bits_activations", 8, 2, 16),
        activations,
        weights,
        fields.text("clip_acts", "NONE", choices=tuple(CLIPPING)),
        fields.number("clip_n_stds", None) if fields.raw("clip_n_stds", None) is not None else None,
        fields.flag("per_channel_wts"),
    )
    if fields.whole("bits_accum", FLOAT_BITS) != FLOAT_BITS:
        fields.note("bits_accum", "sums have 32 bits here, as in every runtime.")
    if fields.flag("fp16"):
        stage = {"stage": "quantize", "numbers": "fp16"}
    fields.ignore("save_fp_weights")
    for name in _OWN_WAY:
        if fields.raw(name, None) not in (None, False):
            fields.note(name, _reason(name))
    bits, activation_bits = bits_of(fields, "bits_parameters", 8) or 8, bits_of(fields, "bits_activations", 8, 2, 16)
    own = after_training(overrides_of(fields, arch, activations=16, layers_alone=True), bits, activation_bits)
    if stage.get("numbers") == "fp16" and own.pop("layer_bits", None):
        fields.note("overrides", "bits of single layers mean nothing where numbers are halves, and are not imported.")
    fields.finish()
    return stage | own


def flag_stages(flags: Fields, arch: str | None) -> list[dict[str, Any]]:
    """The stage of --quantize-eval and --qe-*, or none. raises RecipeError."""
    wanted = flags.flag("quantize-eval")
    mode = flags.text("qe-mode", "sym", choices=tuple(FLAG_MODES))
    activations = MODES[FLAG_MODES[flags.text("qe-mode-acts", mode, choices=tuple(FLAG_MODES))]]
    weights = MODES[FLAG_MODES[flags.text("qe-mode-wts", mode, choices=tuple(FLAG_MODES))]]
    file = flags.text("qe-config-file", None)
    clipping = flags.text("qe-clip-acts", "none", choices=tuple(name.lower() for name in CLIPPING))
    stage = _common(
        flags,
        bits_of(flags, "qe-bits-wts", 8),
        bits_of(flags, "qe-bits-acts", 8, 2, 16),
        activations,
        weights,
        clipping.upper(),
        flags.number("qe-clip-n-stds", None),
        flags.flag("qe-per-channel"),
    )
    names = flags.texts("qe-no-quant-layers", ())
    if names:
        floats = [layer for name in names for layer in names_fitting(flags, name, arch, layers_alone=True)]
        stage |= {"float_layers": floats} if floats else {}
    if flags.flag("qe-dynamic"):
        # Ranges are of every batch: nothing is observed, and runtimes have one kind of them.
        stage = _unobserved(stage) | {"compute": "dynamic"}
    if flags.whole("qe-bits-accum", FLOAT_BITS) != FLOAT_BITS:
        flags.note("qe-bits-accum", "sums have 32 bits here, as in every runtime.")
    flags.flag("qe-save-fp-weights")
    flags.ignore("qe-stats-file", because="ranges are observed on calibration images")
    flags.ignore("qe-calibration", because="calibration is part of the stage; 'images' says on how many")
    flags.ignore("qe-no-clip-layers", because="one observer sees all layers of a stage")
    flags.ignore("qe-scale-approx-bits", because="scales are floating-point numbers in the written file")
    flags.ignore("qe-convert-pytorch", "qe-pytorch-backend", because="the written file is ONNX")
    flags.ignore("qe-lapq", because="the joint search of clips is not part of this version; observer mse is near to it")
    flags.ignore("qe-no-quant-inputs", because="images are quantized with what reads them")
    if not wanted:
        for name in [name for name in flags.value if name.startswith("qe-")]:
            flags.note(name, f"'{name}' means nothing without --quantize-eval.")
        return []
    if file is None:
        return [stage]
    path = Path(file)
    try:
        inner = flags.reading.within(parse_document(read_text(path), str(path), path.parent))
    except RecipeError as error:
        raise RecipeError(f"{flags.reading.document.source}: --qe-config-file: {error}") from error
    return post_training_stages(inner, arch) or inner.fail((), f"has no {POST_TRAINING} under 'quantizers'.")


def _common(
    fields: Fields,
    bits: int | None,
    activation_bits: int | None,
    activations: str,
    weights: str,
    clipping: str,
    deviations: float | None,
    per_channel: bool,
) -> dict[str, Any]:
    stage: dict[str, Any] = {
        "stage": "quantize",
        "method": "ptq",
        "bits": bits or 8,
        "activation_bits": activation_bits or 8,
        "activations": _ACTIVATIONS[activations],
        "weights": "channel" if per_channel else "tensor",
        "observer": CLIPPING[clipping],
        # Distiller rounds to the nearest and neither corrects nor returns layers to float.
        "correct_bias": False,
        "guard": None,
    }
    if activation_bits is None:
        stage = _unobserved(stage) | {"compute": "float"}
    if bits is None:
        fields.note(None, "activations alone are not quantized here, because files of integers have both.")
    if clipping == "N_STD" and deviations is not None and activation_bits is not None:
        stage["observer_options"] = {"n": deviations}
    if weights.startswith("asym"):
        fields.note(None, "weights are symmetric here, as the integer kernels of runtimes want them.")
    return stage


def _unobserved(stage: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stage.items() if key not in _OBSERVED}


def _reason(name: str) -> str:
    return {
        "model_activation_stats": "ranges are observed on calibration images; the file of statistics is not read.",
        "scale_approx_mult_bits": "scales are floating-point numbers in the written file.",
        "fpq_module": "numbers: fp16 or bf16 holds for all layers here.",
        "clip_half_range": "ranges are never halved: values behind ReLU begin at 0 here.",
        "also_clip_weights": "weights are never clipped here.",
        "inputs_quant_auto_fallback": "which values are integers follows from the file's graph here.",
    }[name]
