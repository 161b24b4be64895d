"""Distiller's quantizers that act while a network is trained, by a policy.

    QuantAwareTrainRangeLinearQuantizer    scheme range_linear
    DorefaQuantizer, WRPNQuantizer         schemes dorefa and wrpn
    PACTQuantizer                          scheme pact: act_clip_init_val, act_clip_decay

PostTrainLinearQuantizer acts after it (post_training.py).
"""

from dataclasses import dataclass
from typing import Any

from secateur.recipe.importers.distiller.bits import bits_of, mode_of, overrides_of
from secateur.recipe.importers.distiller.overridden import in_training
from secateur.recipe.importers.distiller.policies import Policy
from secateur.recipe.importers.reading import Fields, Reading
from secateur.registry import unknown

POST_TRAINING = "PostTrainLinearQuantizer"
SCHEMES = {
    "QuantAwareTrainRangeLinearQuantizer": "range_linear",
    "DorefaQuantizer": "dorefa",
    "WRPNQuantizer": "wrpn",
    "PACTQuantizer": "pact",
}


@dataclass(frozen=True)
class Quantizing:
    """A quantizer at work.

    keys    of `qat` in a stage `quantize`
    """

    policy: Policy
    keys: dict[str, Any]


def read_quantizers(reading: Reading, policies: tuple[Policy, ...], arch: str | None) -> Quantizing | None:
    """The quantizer that a policy uses, if any does. raises RecipeError."""
    used = [policy for policy in policies if policy.kind == "quantizer"]
    if len({policy.instance for policy in used}) > 1 or len(used) > 1:
        reading.fail(used[1].at, "a schedule quantizes once; take the other policies of quantizers out.")
    if not used:
        return None
    fields = instance_of(reading, used[0].instance)
    name = fields.text("class")
    if name == POST_TRAINING:
        fields.fail("class", f"{POST_TRAINING} quantizes a trained network; it needs no policy.")
    keys = {"scheme": SCHEMES[name], **_keys(fields, name, arch)}
    fields.finish()
    return Quantizing(used[0], keys)


def instance_of(reading: Reading, instance: str) -> Fields:
    """The section of a quantizer, its class known. raises RecipeError."""
    fields = reading.fields(("quantizers", instance), f"quantizer '{instance}'")
    known = (*SCHEMES, POST_TRAINING)
    if fields.text("class") not in known:
        fields.fail("class", unknown("class", fields.text("class"), known))
    return fields


def _keys(fields: Fields, name: str, arch: str | None) -> dict[str, Any]:
    lowest = 1 if name in ("DorefaQuantizer", "PACTQuantizer") else 2
    keys: dict[str, Any] = {}
    weights = bits_of(fields, "bits_weights", 32, lowest)
    if weights is None:
        fields.note(
            "bits_weights" if "bits_weights" in fields else None,
            "activations alone are not quantized here, because files of integers have both; weights get 8 bits.",
        )
    keys["weight_bits"] = weights or 8
    keys["activation_bits"] = bits_of(fields, "bits_activations", 32)
    if bits_of(fields, "bits_bias", None, 2, 32) is not None:
        fields.ignore("bits_bias", because="biases have 32 bits here")
    overrides = overrides_of(fields, arch, lowest)
    if overrides:
        usual = {"weights": keys["weight_bits"], "activations": keys["activation_bits"]}
        keys["overrides"] = in_training(overrides, usual)
    if name == "QuantAwareTrainRangeLinearQuantizer":
        keys["activation_mode"], keys["weight_mode"] = mode_of(fields, "ASYMMETRIC_UNSIGNED")
        keys["decay"] = fields.number("ema_decay", 0.999, low=1e-9, high=1 - 1e-9)
        keys["per_channel"] = fields.flag("per_channel_wts")
        if not fields.flag("quantize_inputs", True):
            keys.setdefault("overrides", {})["input"] = {"activations": None}
        inputs = bits_of(fields, "num_bits_inputs", None)
        if inputs is not None:
            keys.setdefault("overrides", {})["input"] = {"activations": inputs}
    if name == "PACTQuantizer":
        keys["clip"] = fields.number("act_clip_init_val", 8.0, low=1e-9)
        keys["clip_decay"] = 0.0
        if "act_clip_decay" in fields and fields.raw("act_clip_decay") is not None:
            keys["clip_decay"] = fields.number("act_clip_decay", 0.0, low=0.0)
    if lowest == 1 and keys["weight_bits"] == 8:
        fields.note(
            "bits_weights",
            "the 256 levels of DoReFa have no zero; its layers of 8 bits stay float in the written file.",
        )
    return keys
