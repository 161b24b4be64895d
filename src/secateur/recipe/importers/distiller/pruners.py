"""Distiller's pruners as parts of a sparsify stage.

    part        layers, pattern, sparsity or levels, criterion; base selected, so that every layer gets the level itself
    counts      rounding floor, ties threshold: k = int(s n), and what is not greater than the k-th goes
    schedule    agp, fixed, threshold, splice, baidu or random, without the epochs, which the policy knows

A class is one function under `@pruner(...)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from secateur.recipe.importers.distiller.layers import layer_named
from secateur.recipe.importers.distiller.policies import Policy
from secateur.recipe.importers.reading import Fields, Reading, is_number
from secateur.registry import unknown

PATTERNS = {
    "3D": "filter",
    "Filters": "filter",
    "4D": "filter",
    "2D": "kernel",
    "Channels": "channel",
    "Rows": "row",
    "Cols": "column",
}
THRESHOLD_OF = {"Max": "max", "Mean_Abs": "mean_abs"}
ROUNDINGS = {"math.floor": "floor", "floor": "floor", "math.ceil": "ceil", "ceil": "ceil", "round": "nearest"}


@dataclass(frozen=True)
class PrunerPart:
    """A part without its epochs.

    keys        of a part of a sparsify stage
    schedule    kind, and what belongs to it beside the epochs
    layers      those that it prunes; empty: all
    """

    keys: dict[str, Any]
    schedule: dict[str, Any]
    layers: tuple[str, ...] = ()


@dataclass
class Pruner:
    """What a class's function works with: the instance's arguments, and how parameters become layers."""

    fields: Fields
    policy: Policy
    arch: str | None
    levels: dict[str, Any] | None = None
    common: dict[str, Any] = field(
        default_factory=lambda: {"base": "selected", "rounding": "floor", "ties": "threshold"}
    )

    def weights(self) -> tuple[str, ...]:
        """The layers of `weights`; a single text is one layer."""
        raw = self.fields.raw("weights")
        if isinstance(raw, str):
            layer = layer_named(self.fields, raw, self.arch, "weights")
            self.fields.note(
                "weights",
                f"'weights' is a text and no list; it is imported as the one layer '{layer}'. "
                "Distiller prunes every parameter whose name is contained in that text.",
            )
            return (layer,)
        names = self.fields.texts("weights")
        if not names:
            self.fields.fail("weights", f"'weights' of {self.fields.where} is empty; name one parameter or more.")
        return tuple(layer_named(self.fields, name, self.arch, "weights") for name in names)

    def table(self, name: str) -> tuple[dict[str, float], float | None]:
        """(layer -> value, value of '*') of a table of numbers."""
        section = self.fields.section(name, f"'{name}' of {self.fields.where}")
        if not section.value:
            self.fields.fail(name, f"{self.fields.where} needs '{name}', one parameter or more.")
        values = {str(key): section.number(key, low=0.0) for key in section.value}
        rest = values.pop("*", None)
        return {layer_named(section, key, self.arch): value for key, value in values.items()}, rest


Reader = Callable[[Pruner], list[PrunerPart]]
_READERS: dict[str, Reader] = {}


def pruner(*classes: str) -> Callable[[Reader], Reader]:
    """Decorator: the function that reads these classes."""

    def add(reader: Reader) -> Reader:
        _READERS.update(dict.fromkeys(classes, reader))
        return reader

    return add


def read_pruner(reading: Reading, policy: Policy, arch: str | None) -> list[PrunerPart]:
    """The parts that a policy's pruner stands for. raises RecipeError for an unknown class or argument."""
    fields = reading.fields(("pruners", policy.instance), f"pruner '{policy.instance}'")
    name = fields.text("class")
    if name not in _READERS:
        fields.fail("class", unknown("class", name, _READERS))
    mask, common, levels = _policy_arguments(reading, policy)
    one = Pruner(fields, policy, arch, levels)
    one.common |= common
    parts = _READERS[name](one)
    if policy.every == 0 and any(part.schedule["kind"] != "fixed" for part in parts):
        _not_regular(reading, policy, fields.where)
    if levels is not None and name != "SparsityLevelParameterPruner":
        reading.note(policy.at, f"the argument 'levels' means nothing to {name} and is not imported.")
    fields.finish()
    return [PrunerPart({**part.keys, **({"mask": mask} if mask else {})}, part.schedule, part.layers) for part in parts]


def _policy_arguments(reading: Reading, policy: Policy) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """(mask rule, keys of the part, levels) from the `args` of a policy."""
    if policy.args is None:
        return {}, {}, None
    args = reading.fields(policy.args, f"the arguments of policy {policy.order + 1}")
    keep = args.flag("keep_mask")
    forward, copies = args.flag("mask_on_forward_only"), args.flag("use_double_copies")
    gradients, discard = args.flag("mask_gradients"), args.flag("discard_masks_at_minibatch_end")
    mask: dict[str, Any] = {}
    if every := args.whole("mini_batch_pruning_frequency", 0):
        mask["every_steps"] = every
    if args.flag("skip_first_minibatch"):
        mask["skip_first_step"] = True
    if gradients and not forward:
        args.note(
            "mask_gradients",
            "'mask_gradients' without 'mask_on_forward_only' is refused by Distiller; it is imported as plain masks, "
            "under which removed weights get no gradient either.",
        )
    if forward and not gradients and not copies:
        args.note(
            "mask_on_forward_only",
            "with 'mask_on_forward_only' removed weights start again from zero at every step there; here they keep "
            "what their gradients give them, as with 'use_double_copies'.",
        )
    if copies or (forward and not gradients):
        mask["gradients"] = "all"
    if discard:
        mask["discard_after_step"] = True
        if not keep:
            mask["keep_at_end"] = False
    common = {"fold_norm": True} if args.flag("fold_batchnorm") else {}
    levels = args.raw("levels", None)
    if levels is not None and not isinstance(levels, dict):
        args.fail("levels", "'levels' is a table of parameters and levels.")
    args.finish()
    return mask, common, levels


def _not_regular(reading: Reading, policy: Policy, where: str) -> NoReturn:
    reading.fail(policy.at, f"{where} needs epochs at equal distances, not {', '.join(map(str, policy.epochs))}.")


@pruner("AutomatedGradualPruner")
def _agp(one: Pruner) -> list[PrunerPart]:
    final, schedule = gradual(one)
    layers = one.weights()
    keys = {"layers": layers, "pattern": "unstructured", "sparsity": final, **one.common}
    return [PrunerPart(keys, schedule, layers)]


def gradual(one: Pruner) -> tuple[float, dict[str, Any]]:
    """(final level, schedule). raises RecipeError where nothing would rise."""
    fields, policy = one.fields, one.policy
    initial, final = fields.number("initial_sparsity", low=0.0), fields.number("final_sparsity", low=0.0)
    if not final < 1:
        fields.fail("final_sparsity", f"'final_sparsity' is a fraction below 1, found {final:g}.")
    if final <= initial:
        fields.fail(
            "final_sparsity", f"'final_sparsity' ({final:g}) must be greater than 'initial_sparsity' ({initial:g})."
        )
    if policy.every == 0:
        _not_regular(fields.reading, policy, fields.where)
    if (policy.end - policy.start - 1) // policy.every < 1:
        one.fields.reading.fail(
            policy.at,
            f"{fields.where} acts only once between epochs {policy.start} and {policy.end}, so its level cannot rise; "
            "it needs two epochs of action or more.",
        )
    return final, {"kind": "agp", "initial": initial}


@pruner("SparsityLevelParameterPruner")
def _levels(one: Pruner) -> list[PrunerPart]:
    if one.levels is None:
        table, rest = one.table("levels")
    else:
        one.fields.ignore("levels")
        named = {str(name): level for name, level in one.levels.items()}
        rest = named.pop("*", None)
        table = {layer_named(one.fields, name, one.arch, "levels"): level for name, level in named.items()}
    for name, level in (*table.items(), ("*", rest)):
        if level is not None and not (is_number(level) and 0 <= level < 1):
            one.fields.fail("levels", f"the level of '{name}' is a fraction from 0 to below 1, found {level!r}.")
    keys: dict[str, Any] = {"pattern": "unstructured", "levels": table, **one.common}
    if rest is None:
        layers = tuple(table)
        return [PrunerPart({**keys, "layers": layers, "sparsity": 0.0}, {"kind": "fixed"}, layers)]
    everything = {"include_first": True, "include_depthwise": True, "include_classifier": True}
    return [PrunerPart({**keys, **everything, "sparsity": rest}, {"kind": "fixed"})]


@pruner("MagnitudeParameterPruner")
def _magnitude(one: Pruner) -> list[PrunerPart]:
    table, rest = one.table("thresholds")
    if rest is None:
        one.fields.fail(
            "thresholds", f"'thresholds' of {one.fields.where} needs the key '*', for all other parameters."
        )
    return [_thresholds(one, "unstructured", {"thresholds": {"*": rest, **table}}, ())]


@pruner("SensitivityPruner")
def _sensitivity(one: Pruner) -> list[PrunerPart]:
    table, rest = one.table("sensitivities")
    star = {"*": rest} if rest is not None else {}
    return [_thresholds(one, "unstructured", {"sensitivities": {**star, **table}}, () if star else tuple(table))]


@pruner("SplicingPruner")
def _splicing(one: Pruner) -> list[PrunerPart]:
    table, rest = one.table("sensitivities")
    star = {"*": rest} if rest is not None else {}
    fields = one.fields
    schedule = {
        "kind": "splice",
        "sensitivities": {**star, **table},
        "low": fields.number("low_thresh_mult", low=1e-9),
        "high": fields.number("hi_thresh_mult", low=1e-9),
        "growth": fields.number("sensitivity_multiplier", 0.0, low=0.0),
    }
    return [_part(one, "unstructured", schedule, () if star else tuple(table))]


@pruner("BaiduRNNPruner")
def _baidu(one: Pruner) -> list[PrunerPart]:
    fields = one.fields
    schedule = {
        "kind": "baidu",
        "q": fields.number("q", low=1e-12),
        "offset": fields.whole("ramp_epoch_offset"),
        "slope_mult": fields.number("ramp_slope_mult", 2.0, low=1e-9),
    }
    return [_part(one, "unstructured", schedule, one.weights())]


@pruner("StructureParameterPruner")
def _structures(one: Pruner) -> list[PrunerPart]:
    regims = one.fields.section("reg_regims", f"'reg_regims' of {one.fields.where}")
    of = THRESHOLD_OF[one.fields.text("threshold_criteria", "Mean_Abs", choices=tuple(THRESHOLD_OF))]
    tables: dict[str, dict[str, float]] = {}
    for name in regims.value:
        pair = regims.raw(name)
        if not isinstance(pair, list) or len(pair) != 2 or not is_number(pair[0]) or pair[0] < 0:
            regims.fail(name, f"'{name}' is [threshold, group], such as [0.01, 3D].")
        if str(pair[1]) not in PATTERNS:
            regims.fail(name, unknown("group", str(pair[1]), PATTERNS))
        tables.setdefault(PATTERNS[str(pair[1])], {})[layer_named(regims, str(name), one.arch)] = float(pair[0])
    if not tables:
        one.fields.fail("reg_regims", f"'reg_regims' of {one.fields.where} names one parameter or more.")
    return [
        _thresholds(one, pattern, {"thresholds": table, "of": of}, tuple(table)) for pattern, table in tables.items()
    ]


def _thresholds(one: Pruner, pattern: str, table: dict[str, Any], layers: tuple[str, ...]) -> PrunerPart:
    return _part(one, pattern, {"kind": "threshold", **table}, layers)


def _part(one: Pruner, pattern: str, schedule: dict[str, Any], layers: tuple[str, ...]) -> PrunerPart:
    """A part whose sparsity the weights decide."""
    keys: dict[str, Any] = {"pattern": pattern, **one.common}
    if layers:
        keys["layers"] = layers
    else:
        keys |= {"include_first": True, "include_depthwise": True, "include_classifier": True}
    return PrunerPart(keys, schedule, layers)
