"""What Distiller's quantizers have in common: bits, overrides by regular expressions, modes.

null, 32     stays float
overrides    regular expression of module names -> {bits_weights or bits_parameters, bits_activations}; the first
             that matches a whole name counts. Older files: bits_overrides with wts and acts
"""

from dataclasses import dataclass
from typing import Any, cast

from secateur.recipe.importers.distiller.layers import glob_of, layers_fitting, not_sayable
from secateur.recipe.importers.reading import Fields

FLOAT_BITS = 32
MODES = {
    "SYMMETRIC": "sym_full",
    "SYMMETRIC_RESTRICTED": "sym",
    "ASYMMETRIC_UNSIGNED": "asym_u",
    "ASYMMETRIC_SIGNED": "asym_s",
}
# No network has more layers, and each entry is compared with all others.
_MOST = 1000
_WEIGHTS = ("bits_weights", "bits_parameters", "wts")
_ACTIVATIONS = ("bits_activations", "acts")


@dataclass(frozen=True)
class Override:
    """What is different for the layers that an expression fits.

    names     of them, or globs that say the same
    bits      a key that is missing is as for the others, None is float
    fields    the section in which the expression is a key
    """

    expression: str
    names: tuple[str, ...]
    bits: dict[str, int | None]
    fields: Fields


def bits_of(fields: Fields, name: str, default: int | None, lowest: int = 2, highest: int = 8) -> int | None:
    """The bits under a key, None for float. raises RecipeError for what no integer of ours has."""
    if name in fields and fields.raw(name) is None:
        return None
    bits = cast(int | None, fields.whole(name, default))
    if bits is None or bits == FLOAT_BITS:
        return None
    if not lowest <= bits <= highest:
        fields.fail(
            name, f"'{name}' in {fields.where} is {lowest} to {highest}, or {FLOAT_BITS} for float, not {bits}."
        )
    return bits


def overrides_of(
    fields: Fields, arch: str | None, lowest: int = 2, activations: int = 8, layers_alone: bool = False
) -> tuple[Override, ...]:
    """The overrides of a quantizer, in their order: of those that fit a layer the first counts.

    layers_alone    names of layers wherever they are known; otherwise globs wherever they can be, which fit the
                    modules without weights too
    raises          RecipeError  unknown keys, an expression whose layers cannot be told
    """
    found: list[Override] = []
    for section in ("overrides", "bits_overrides"):
        listed = fields.section(section, f"'{section}' of {fields.where}")
        if len(listed.value) > _MOST:
            fields.fail(section, f"'{section}' of {fields.where} has {len(listed.value)} entries; at most {_MOST}.")
        for key in listed.value:
            expression = str(key)
            entry = listed.section(expression, f"'{expression}' in '{section}'")
            bits = _bits_of_entry(entry, lowest, activations)
            found.append(Override(expression, names_fitting(listed, expression, arch, layers_alone), bits, listed))
    return tuple(found)


def names_fitting(fields: Fields, expression: str, arch: str | None, layers_alone: bool) -> tuple[str, ...]:
    """Names of the layers that an expression fits, or a glob. raises RecipeError where neither can be told."""
    glob, layers = glob_of(fields, expression, arch), layers_fitting(fields, expression, arch)
    if layers is not None and (layers_alone or glob is None):
        if not layers:
            fields.note(expression, f"'{expression}' fits no layer with weights of this network, so it does nothing.")
        return layers
    if glob is None:
        not_sayable(fields, expression)
    return (glob,)


def _bits_of_entry(entry: Fields, lowest: int, activations: int) -> dict[str, int | None]:
    bits: dict[str, int | None] = {}
    for ours, names, least, most in (("weights", _WEIGHTS, lowest, 8), ("activations", _ACTIVATIONS, 2, activations)):
        for name in names:
            if name in entry:
                bits[ours] = bits_of(entry, name, None, least, most)
    entry.ignore("bits_bias", "bits_accum", because="biases have 32 bits here")
    entry.ignore(
        *("clip_acts", "clip_n_stds", "clip_half_range", "mode", "per_channel_wts", "fp16"),
        *("model_activation_stats", "scale_approx_mult_bits", "output_quant", "input_overrides"),
        because="bits alone may differ from layer to layer here",
    )
    entry.finish()
    return bits


def mode_of(fields: Fields, default: str) -> tuple[str, str]:
    """(mode of activations, mode of weights), ours. raises RecipeError."""
    given: Any = fields.raw("mode", default)
    if isinstance(given, dict):
        inner = fields.section("mode")
        activations = inner.text("activations", default, choices=tuple(MODES))
        weights = inner.text("weights", default, choices=tuple(MODES))
        inner.finish()
        return MODES[activations], MODES[weights]
    mode = MODES[fields.text("mode", default, choices=tuple(MODES))]
    return mode, mode
