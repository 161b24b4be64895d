"""Distiller's regularizers as ours.

L1Regularizer             reg_regims {parameter: strength}
GroupLassoRegularizer     reg_regims {parameter: [strength, group]}
GroupVarianceRegularizer  the same
DropFilterRegularizer     reg_regims {parameter: probability}
"""

from typing import Any

from secateur.recipe.importers.distiller.layers import layer_named
from secateur.recipe.importers.distiller.policies import Policy
from secateur.recipe.importers.reading import Reading, as_number, is_number
from secateur.registry import unknown

CLASSES = {
    "L1Regularizer": "l1",
    "GroupLassoRegularizer": "group_lasso",
    "GroupVarianceRegularizer": "group_variance",
    "DropFilterRegularizer": "drop_filter",
}
GROUPS = {
    "2D": "kernel",
    "3D": "filter",
    "Filters": "filter",
    "4D": "layer",
    "Channels": "channel",
    "Rows": "row",
    "Cols": "column",
    "Rows+Cols": "row+column",
    "Channels+4D": "channel+layer",
}
CRITERIA = {"Max": "max", "Mean_Abs": "mean_abs"}


def read_regularizer(reading: Reading, policy: Policy, arch: str | None) -> list[dict[str, Any]]:
    """The penalties of a policy's instance; layers of one strength and group are one. raises RecipeError."""
    fields = reading.fields(("regularizers", policy.instance), f"regularizer '{policy.instance}'")
    name = fields.text("class")
    if name not in CLASSES:
        fields.fail("class", unknown("class", name, CLASSES))
    kind = CLASSES[name]
    threshold = fields.raw("threshold_criteria", None)
    if threshold is not None:
        threshold = CRITERIA[fields.text("threshold_criteria", choices=tuple(CRITERIA))]
    regims = fields.section("reg_regims", f"'reg_regims' of regularizer '{policy.instance}'")
    if not regims.value:
        fields.fail("reg_regims", f"regularizer '{policy.instance}' has 'reg_regims', one parameter or more.")
    keep = False
    if policy.args is not None:
        args = reading.fields(policy.args, f"the arguments of policy {policy.order + 1}")
        keep = args.flag("keep_mask")
        args.finish()
    found: dict[tuple[float, str], list[str]] = {}
    for parameter in regims.value:
        strength, group = _regime(regims, parameter, grouped=kind.startswith("group"))
        found.setdefault((strength, group), []).append(layer_named(regims, str(parameter), arch))
    fields.finish()
    common = {"kind": kind, "threshold": threshold, "keep_mask": keep}
    return [
        {**common, "layers": layers, "strength": strength, "group": group}
        for (strength, group), layers in found.items()
    ]


def _regime(regims: Any, parameter: str, grouped: bool) -> tuple[float, str]:
    if not grouped:
        return regims.number(parameter, low=1e-30), "filter"
    pair = regims.raw(parameter)
    if not isinstance(pair, list) or len(pair) != 2 or isinstance(pair[0], bool):
        regims.fail(parameter, f"'{parameter}' is [strength, group], such as [0.0001, 3D].")
    strength, group = as_number(pair[0]), str(pair[1])
    if not is_number(strength):
        regims.fail(parameter, f"the strength of '{parameter}' is a number, found {strength!r}.")
    if not strength > 0:
        regims.fail(parameter, f"the strength of '{parameter}' is above 0, found {strength:g}.")
    if group not in GROUPS:
        regims.fail(parameter, unknown("group", group, GROUPS))
    return strength, GROUPS[group]
