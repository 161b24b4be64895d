"""Channels of a network in an order in which its pattern loses less; the network computes the same.

    N:M     all layers that read the same channels share one order: their columns are stacked and searched together
    1xN     all layers that make the same channels (a residual sum) share one order of their filters
    apply   filters, biases, norms, depthwise filters and every reader are reordered alike (channels.permute)

An order is applied only where the pattern then keeps more of the layers, counted with the pattern's own masks.
Inputs and outputs of the network, and channels that an operator ties to their places, keep their order.

Source: Pool & Yu 2021 (N:M); Lin et al. 2022 (1xN), whose code only sorts the mask. ALGORITHMS B4.5, B5.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from secateur.channels.groups import ChannelGroup, IntArray
from secateur.channels.order_plan import OrderedGroup, OrderPlan
from secateur.channels.order_sides import (
    Lines,
    Side,
    by_input,
    by_kernel,
    by_position,
    common_stripes,
    sides_of,
    weights_by_layer,
)
from secateur.channels.permute import permute_group_
from secateur.channels.trace import channel_groups, input_shape, plain_copy
from secateur.errors import SparsityError
from secateur.progress import track
from secateur.registry import unknown
from secateur.sparsity import (
    NM,
    BlockOf,
    Layer,
    Pattern,
    filters_first,
    layers_of,
    make_mask,
    parse_pattern,
    select_layers,
    unwrapped,
)
from secateur.sparsity.permutation import BlockRows, balanced_rows, search_order, similar_order, sorted_order
from secateur.sparsity.permutation.blocks import WORK as BLOCK_WORK
from secateur.sparsity.permutation.blocks import Rule
from secateur.sparsity.permutation.search import ESCAPES, WORK

Tied = Literal["common", "leave"]
# Sums in another order differ in the last bits only; a wrong channel differs in the first digits.
_TOLERANCE = 1e-3

# An order of the given units, of the sides that agree, and how it was found.
_Search = Callable[[Sequence[Side], IntArray], tuple[IntArray, str]]


def permute_for_nm_(
    model: nn.Module,
    pattern: str | NM = "2:4",
    input_size: Sequence[int] | None = None,
    *,
    layers: Iterable[str] | None = None,
    window: int | None = None,
    escapes: int = ESCAPES,
    work: int = WORK,
    seconds: float | None = None,
    seed: int = 0,
    optimizer: Optimizer | None = None,
) -> OrderPlan:
    """Reorder input channels so that N:M removes less magnitude; outputs stay the same.

    layers       that will be pruned: only these are looked at; by default those that the pattern would prune
    window, escapes, work, seconds, seed    of the search, see `search_order`; `work` holds for each group
    optimizer    its state is reordered too
    raises       SparsityError  not an N:M pattern, or a network whose outputs depend on the order in a way that was
                                not seen; it is then left as it was
                 ModelError     the network does not run on such an input
    """
    rule = parse_pattern(pattern)
    if not isinstance(rule, NM):
        raise SparsityError(f"channels are permuted for N:M patterns such as 2:4, not for {rule}.")

    def search(sides: Sequence[Side], units: IntArray) -> tuple[IntArray, str]:
        stacked = np.concatenate([side.lines[units] for side in sides], axis=1)
        found = search_order(
            stacked.T, rule.n, rule.m, window=window, escapes=escapes, work=work, seconds=seconds, seed=seed
        )
        return found.order, found.method

    levels = dict.fromkeys(_chosen(model, rule, layers), rule.fixed_level or 0.0)
    return _Reordering(model, rule, levels, input_size, optimizer).carry_out_(
        "consumer", by_input, rule.m, False, search, "permuted"
    )


def rearrange_for_blocks_(
    model: nn.Module,
    pattern: str | BlockOf = "1x4",
    sparsity: float = 0.5,
    input_size: Sequence[int] | None = None,
    *,
    levels: Mapping[str, float] | None = None,
    rule: Rule = "balanced",
    tied: Tied = "common",
    work: int = BLOCK_WORK,
    seed: int = 0,
    optimizer: Optimizer | None = None,
) -> OrderPlan:
    """Reorder filters so that 1xN blocks hold filters that use the same inputs; outputs stay the same.

    sparsity     the level for which the order is made, of every layer that the pattern would prune
    levels       layer -> level, instead of `sparsity`; other layers are not looked at
    rule         balanced: filters that use the same inputs come together, whatever their norm; similar: the most
                 magnitude is kept; sorted: by L1 norm, as in the 1xN paper (secateur.sparsity.permutation.blocks)
    tied         common: layers whose outputs are added share one order; leave: they keep theirs (1xN's own rule)
    work         numbers that the search may look at for each group
    raises       SparsityError  not a 1xN pattern, an unknown rule, or a network whose outputs depend on the order in
                                a way that was not seen; it is then left as it was
                 ModelError     the network does not run on such an input
    """
    blocks = parse_pattern(pattern)
    if not isinstance(blocks, BlockOf):
        raise SparsityError(f"filters are rearranged for 1xN patterns such as 1x4, not for {blocks}.")
    for kind, given, known in (("rule", rule, get_args(Rule)), ("treatment of tied layers", tied, get_args(Tied))):
        if given not in known:
            raise SparsityError(unknown(kind, given, known))
    chosen = dict.fromkeys(_chosen(model, blocks, None), sparsity) if levels is None else dict(levels)

    def search(sides: Sequence[Side], units: IntArray) -> tuple[IntArray, str]:
        rows = [BlockRows(side.lines[units], chosen[side.layer.name]) for side in sides]
        if rule == "sorted":
            return sorted_order(np.sum([row.scores.sum(axis=1, dtype=np.float64) for row in rows], axis=0)), rule
        rows = [balanced_rows(row) for row in rows] if rule == "balanced" else rows
        return similar_order(rows, blocks.n, seed=seed, work=work), rule

    lines = by_kernel if blocks.span == "kernel" else by_position
    reordering = _Reordering(model, blocks, chosen, input_size, optimizer)
    short = blocks.remainder == "short"
    return reordering.carry_out_("producer", lines, blocks.n, short, search, rule, tied == "common")


def replay_orders_(model: nn.Module, plan: OrderPlan, input_size: Sequence[int] | None = None) -> None:
    """Reorder the channels of a network as those of another one with the same layers were.

    raises    SparsityError  a group of channels that this network has not, or not of that size
    """
    groups = {group.name: group for group in channel_groups(model, input_size).groups} if plan.reordered else {}
    for ordered in plan.reordered:
        if ordered.name not in groups:
            raise SparsityError(unknown("group of channels", ordered.name, groups))
        permute_group_(model, groups[ordered.name], ordered.order)


def _chosen(model: nn.Module, pattern: Pattern, layers: Iterable[str] | None) -> tuple[str, ...]:
    return select_layers(model, pattern).chosen if layers is None else tuple(layers)


class _Reordering:
    """A network, the layers that will have a pattern, and what has been done to it so far."""

    def __init__(
        self,
        model: nn.Module,
        pattern: Pattern,
        levels: Mapping[str, float],
        input_size: Sequence[int] | None,
        optimizer: Optimizer | None,
    ) -> None:
        self.model = unwrapped(model)
        self.pattern, self.levels, self.optimizer = pattern, levels, optimizer
        known = {layer.name: layer for layer in layers_of(self.model)}
        for name in levels:
            if name not in known:
                raise SparsityError(unknown("layer", name, known))
        self.layers = tuple(layer for layer in known.values() if layer.name in levels)
        self.shape = input_shape(model, input_size)
        self.groups = channel_groups(model, input_size)
        self.done: list[tuple[ChannelGroup, IntArray]] = []
        self.kept: dict[str, float] = {}

    def carry_out_(
        self,
        role: Literal["producer", "consumer"],
        lines: Lines,
        size: int,
        short: bool,
        search: _Search,
        rule: str,
        common: bool = True,
    ) -> OrderPlan:
        before = self._outputs()
        found: list[OrderedGroup] = []
        with track(len(self.groups.groups), f"order for {self.pattern}") as progress:
            for group in self.groups.groups:
                ordered = self._order_(group, role, lines, size, short, search, common)
                found += [ordered] if ordered is not None else []
                progress.advance()
        plan = OrderPlan(str(self.pattern), rule, tuple(found))
        if self.done and not _same(before, self._outputs()):
            for group, order in reversed(self.done):
                permute_group_(self.model, group, np.argsort(order), self.optimizer)
            raise SparsityError(
                f"{type(self.model).__name__}: its outputs depend on the order of channels in a way that was not seen "
                "while it ran; it was left as it was. Leave permute and rearrange out."
            )
        return plan

    def _order_(
        self,
        group: ChannelGroup,
        role: Literal["producer", "consumer"],
        lines: Lines,
        size: int,
        short: bool,
        search: _Search,
        common: bool,
    ) -> OrderedGroup | None:
        """The group in its new order, applied where it is better; None where no layer looks at it."""
        weights = weights_by_layer(self.layers, self.model)
        sides = sides_of(weights, group, role, lines)
        if not sides:
            return None
        layers = tuple(side.layer.name for side in sides)
        total = sum(float(weights[name][1].detach().abs().sum(dtype=torch.float64)) for name in layers)
        kept = self._kept(sides)
        plain = OrderedGroup(group.name, layers, group.size, (), kept, kept, total, "")
        if group.frozen is not None:
            return replace(plain, remark=f"as it is: {group.frozen}")
        if not common and len(group.producers) > 1:
            return replace(plain, remark="as it is: the outputs of several layers are tied")
        order = np.arange(group.size, dtype=np.int64)
        methods: list[str] = []
        for segment in range(group.segments):
            units, agree = common_stripes(sides, np.flatnonzero(group.segment == segment), size, short)
            if len(units) > size:
                new, method = search(agree, units)
                order[units] = units[new]
                methods.append(method)
        if np.array_equal(order, np.arange(group.size)):
            return replace(plain, remark=methods[0] if methods else "as it is: no two whole stripes")
        permute_group_(self.model, group, order, self.optimizer)
        known = dict(self.kept)
        after = self._kept(sides, anew=True)
        if after <= kept:
            self.kept = known
            permute_group_(self.model, group, np.argsort(order), self.optimizer)
            return replace(plain, remark="as it is: no better order found")
        self.done.append((group, order))
        return replace(plain, order=tuple(order.tolist()), after=after, remark=methods[0])

    def _kept(self, sides: Sequence[Side], anew: bool = False) -> float:
        """Magnitude that the pattern keeps of whole layers, as they now stand."""
        weights = weights_by_layer([side.layer for side in sides], self.model)
        for name, (layer, weight) in weights.items():
            if anew or name not in self.kept:
                self.kept[name] = _kept_of(layer, weight, self.pattern, self.levels[name])
        return sum(self.kept[name] for name in weights)

    def _outputs(self) -> Tensor:
        """All outputs for one image of noise."""
        network = plain_copy(self.model)
        parameter = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
        image = torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(0)).to(parameter.dtype)
        with torch.no_grad():
            result = tree_leaves(network(image))
        return torch.cat([leaf.double().flatten() for leaf in result if isinstance(leaf, Tensor)])


def _kept_of(layer: Layer, weight: Tensor, pattern: Pattern, level: float) -> float:
    scores = filters_first(weight.detach(), layer.kind, layer.groups).abs()
    mask = make_mask(scores, pattern, level, groups=layer.groups)
    return float((scores.double() * mask).sum())


def _same(a: Tensor, b: Tensor) -> bool:
    size = float(a.nan_to_num().abs().max()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * size, equal_nan=True)
