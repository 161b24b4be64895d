"""Several plans for one network: each layer belongs to one of them at most, and the totals are those of the network."""

from collections.abc import Sequence
from dataclasses import replace

from secateur.errors import SparsityError
from secateur.graph.table import dims, percent, text_table
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.selection import NOT_NAMED

NOT_IN_GROUP, NOT_IN_PART = "in another group", "not in this part"


def check_disjoint(plans: Sequence[SparsityPlan]) -> None:
    """raises SparsityError when two plans prune the same layer, with its name"""
    owner: dict[str, int] = {}
    for number, plan in enumerate(plans, 1):
        for name in plan.levels:
            if name in owner:
                raise SparsityError(
                    f"{name}: belongs to part {owner[name]} and to part {number}; every layer may be in one part only."
                )
            owner[name] = number


def in_groups(plans: Sequence[SparsityPlan], size: int) -> list[dict[int, SparsityPlan]]:
    """The plans cut into groups of `size` layers in their order in the network.

    returns    for every group: number of the plan, from 0 -> what the group has of it, if anything
    """
    pruned = {name for plan in plans for name in plan.levels}
    order = [layer.name for layer in plans[0].layers if layer.name in pruned]
    groups: list[dict[int, SparsityPlan]] = []
    for start in range(0, len(order), size):
        chosen = set(order[start : start + size])
        groups.append({number: _only(plan, chosen) for number, plan in enumerate(plans) if chosen & set(plan.levels)})
    return groups


def as_part(plan: SparsityPlan) -> SparsityPlan:
    """The plan of a part, whose other layers are left to other parts."""

    def named(layer: PlannedLayer) -> PlannedLayer:
        return replace(layer, reason=NOT_IN_PART) if layer.reason == NOT_NAMED else layer

    return replace(plan, layers=tuple(map(named, plan.layers)))


def totals(plans: Sequence[SparsityPlan]) -> tuple[int, int]:
    """(zeros, convolution and linear weights) of the network, all plans together."""
    return sum(plan.zeros for plan in plans), sum(layer.weights for layer in plans[0].layers)


def parts_table(plans: Sequence[SparsityPlan]) -> str:
    """All layers of the network with their part, or the reason why none prunes them."""
    headers = ("layer", "kind", "shape", "part", "pattern", "level %", "zeros", "of", "remark")
    rows = [_row([plan.layers[place] for plan in plans], plans) for place in range(len(plans[0].layers))]
    zeros, weights = totals(plans)
    share = percent(zeros / weights if weights else 0.0, 1.0)
    rows.append(("total", "", "", "", "", share, f"{zeros:,}", f"{weights:,}", "conv_linear"))
    lines = [text_table(headers, rows, left=5, total=True)]
    lines += [
        f"part {number}: pattern {plan.pattern}, target {100 * plan.sparsity:.2f} %, planned "
        f"{100 * plan.achieved:.2f} % (base {plan.base}), criterion {plan.criterion}, allocation {plan.allocation}; "
        f"{len(plan.levels)} layers"
        for number, plan in enumerate(plans, 1)
    ]
    return "\n".join(lines)


def _row(layers: Sequence[PlannedLayer], plans: Sequence[SparsityPlan]) -> tuple[str, ...]:
    cells = (layers[0].name, layers[0].kind, dims(layers[0].shape))
    for number, (layer, plan) in enumerate(zip(layers, plans, strict=True), 1):
        if layer.level is not None:
            level = percent(layer.level, 1.0)
            remark = "at the cap" if layer.name in plan.capped else ""
            return (*cells, str(number), str(plan.pattern), level, f"{layer.zeros:,}", f"{layer.weights:,}", remark)
    reasons = list(dict.fromkeys(layer.reason or "" for layer in layers))
    return (*cells, "", "dense", "-", "0", f"{layers[0].weights:,}", "; ".join(reasons))


def _only(plan: SparsityPlan, names: set[str]) -> SparsityPlan:
    def cut(layer: PlannedLayer) -> PlannedLayer:
        if layer.level is None or layer.name in names:
            return layer
        return replace(layer, level=None, units=0, zeros=0, reason=NOT_IN_GROUP)

    return replace(plan, layers=tuple(map(cut, plan.layers)))
