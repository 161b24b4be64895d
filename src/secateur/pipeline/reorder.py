"""Channels in a new order before weights go, where a recipe says `permute` or `rearrange`.

The network stays the same function. The dense copy, which later stages may learn from channel by channel, gets the same
order, also when a run is resumed.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from secateur.channels.order_plan import OrderPlan
from secateur.channels.rearrange import permute_for_nm_, rearrange_for_blocks_, replay_orders_
from secateur.errors import ArtifactError, RecipeError, SecateurError
from secateur.pipeline.context import Context
from secateur.pipeline.parts import parts_of, plans_of
from secateur.progress import say
from secateur.recipe import SparsifyPart, SparsifyStage
from secateur.sparsity import NM, BlockOf, SparsityPlan, layers_of, parse_pattern

# Where the result of a stage has the orders.
KEY = "orders"


def reorder_(context: Context, stage: SparsifyStage) -> list[dict[str, Any]]:
    """Reorder channels of the network and of its dense copy as the parts of a stage ask; the order plans.

    raises    RecipeError, SparsityError
    """
    check_orders(stage)
    asked = [number for number, part in enumerate(parts_of(stage)) if part.permute or part.rearrange]
    if not asked:
        return []
    plans = plans_of(context, stage)
    orders: list[dict[str, Any]] = []
    for number in asked:
        order = _reordered_(context.network, parts_of(stage)[number], plans[number], context.recipe.seed)
        if context.dense is not None and _shapes(context.dense) == _shapes(context.network):
            replay_orders_(context.dense, order)
        say(
            f"sparsify: {len(order.reordered)} of {len(order.groups)} groups of channels in a new order for "
            f"{order.pattern}, {order.gained:+.2f} of |w| kept"
        )
        orders.append(order.to_dict())
    return orders


def restore_orders_(context: Context, result: Mapping[str, Any]) -> None:
    """Reorder the network, and its dense copy, as a finished stage did.

    raises    ArtifactError  the orders are damaged, or of another network
    """
    for value in result.get(KEY, []):
        order = OrderPlan.from_dict(value)
        try:
            replay_orders_(context.network, order)
        except SecateurError as error:
            raise ArtifactError(f"the orders of channels belong to another network: {error}") from error
        if context.dense is not None and _shapes(context.dense) == _shapes(context.network):
            replay_orders_(context.dense, order)


def check_orders(stage: SparsifyStage) -> None:
    """raises RecipeError when a part asks for an order that its pattern cannot use."""
    for part in parts_of(stage):
        pattern = parse_pattern(part.pattern, part.remainder)
        if part.permute and not isinstance(pattern, NM):
            raise RecipeError(f"stage '{stage.stage}': permute is for N:M patterns such as 2:4, not for {pattern}.")
        if part.rearrange and not isinstance(pattern, BlockOf):
            raise RecipeError(f"stage '{stage.stage}': rearrange is for 1xN patterns such as 1x4, not for {pattern}.")
        if "rearrange_rule" in part.model_fields_set and not part.rearrange and part.rearrange_rule != "balanced":
            raise RecipeError(f"stage '{stage.stage}': rearrange_rule says how; rearrange: true says that it is done.")


def _reordered_(network: nn.Module, part: SparsifyPart, plan: SparsityPlan, seed: int) -> OrderPlan:
    pattern = parse_pattern(part.pattern, part.remainder)
    if isinstance(pattern, NM):
        return permute_for_nm_(network, pattern, layers=plan.levels, seed=seed)
    assert isinstance(pattern, BlockOf)  # check_orders
    return rearrange_for_blocks_(network, pattern, levels=plan.levels, rule=part.rearrange_rule, seed=seed)


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of a copy that has lost channels, or not yet, the order is not asked for: nothing compares channel by channel."""
    return {layer.name: layer.shape for layer in layers_of(network)}
