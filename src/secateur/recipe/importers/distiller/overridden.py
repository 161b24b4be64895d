"""Overrides of Distiller's quantizers in our words.

There the first expression that fits a name says everything about it; what it leaves out is as for all others. Here
layers that stay float (after training) or that have bits of their own are listed, and lists have no such order.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from secateur.recipe.importers.distiller.bits import Override


def after_training(overrides: Sequence[Override], bits: int, activation_bits: int | None) -> dict[str, Any]:
    """`layer_bits` and `float_layers` of a stage that quantizes. raises RecipeError for an order without such lists."""
    chosen: dict[str, Override] = {}
    for override in overrides:
        _note_activations(override, activation_bits)
        for name in override.names:
            earlier = next((one for known, one in chosen.items() if known != name and _may_meet(known, name)), None)
            if earlier is not None and _is_float(override) and not _is_float(earlier):
                override.fields.fail(
                    override.expression,
                    f"'{earlier.expression}' goes before '{override.expression}', which keeps layers float; the layers "
                    "of this network are not known here, so list those that stay float.",
                )
            chosen.setdefault(name, override)
    floats = [name for name, override in chosen.items() if _is_float(override)]
    # Of several globs that fit a layer the last counts here, and the first there.
    given = {name: override.bits.get("weights", bits) for name, override in reversed(chosen.items())}
    patterns = any(_is_glob(name) for name in chosen)
    own = {name: its for name, its in given.items() if name not in floats and (patterns or its != bits)}
    return ({"layer_bits": own} if own else {}) | ({"float_layers": floats} if floats else {})


def in_training(overrides: Sequence[Override], bits: dict[str, int | None]) -> dict[str, dict[str, int | None]]:
    """`overrides` of a section `qat`.

    bits    of `weights` and `activations` of all others
    """
    found: dict[str, dict[str, int | None]] = {}
    for override in overrides:
        for name in override.names:
            found.setdefault(name, dict(override.bits))
    names = list(found)
    for at, name in enumerate(names):
        # Here each kind of number has its own first glob, so what an earlier one leaves out is written.
        later = [found[other] for other in names[at + 1 :] if _may_meet(name, other)]
        found[name] |= {kind: usual for kind, usual in bits.items() if any(kind in one for one in later)} | found[name]
    return found


def _note_activations(override: Override, usual: int | None) -> None:
    own = override.bits.get("activations", usual)
    if own is not None and own != usual and not _is_float(override):
        override.fields.note(
            override.expression,
            f"the activations of '{override.expression}' have {own} bits there; here all activations have the same, "
            f"{usual or 'float'}.",
        )


def _is_float(override: Override) -> bool:
    """Whether its layers are computed in floating point: integers need both weights and activations."""
    return None in override.bits.values()


def _is_glob(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _may_meet(one: str, other: str) -> bool:
    """Whether two names or globs may fit the same name."""
    if not _is_glob(one) or not _is_glob(other):
        return fnmatchcase(one, other) or fnmatchcase(other, one)
    first, second = (name[: min(name.index(sign) for sign in "*?[" if sign in name)] for name in (one, other))
    return first.startswith(second) or second.startswith(first)
