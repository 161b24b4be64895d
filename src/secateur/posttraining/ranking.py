"""From sequences of removals to masks: which units of a layer are gone at a level.

    tiles    the sequences of all blocks of rows are merged: the cheapest next removal goes, its cost divided by the
             weights of the unit, so that shorter ones compete fairly; the first `removed_units` of them are the mask
    N:M      which weights of a group of M go is the order of their removal; below the full level the groups go first
             whose removals together cost least

Source: Frantar & Alistarh 2022 (global step of OBC); fractions of N:M are our own design.
"""

import torch
from torch import Tensor

from secateur.posttraining.exact import Removals
from secateur.posttraining.sets import Sets
from secateur.sparsity import Pattern, Rounding
from secateur.sparsity.pattern import remove_lowest


class Ranking:
    """All masks of one layer that follow from one sweep."""

    def __init__(self, removals: Removals, sets: Sets, pattern: Pattern, shape: tuple[int, ...]) -> None:
        self.pattern, self.shape = pattern, shape
        self.groups = removals.sets.shape[0]
        if sets.group_of is None:
            self._merge(removals, sets)
        else:
            self._group(removals, sets.group_of.to(removals.sets.device))

    def mask(self, level: float, rounding: Rounding) -> Tensor:
        """True = kept, in the shape of the layer. raises SparsityError for a level that the pattern cannot reach."""
        count = self.pattern.removed_units(self.shape, level, rounding, self.groups)
        return self.pattern.mask_of(remove_lowest(self.costs, count), self.scores, self.groups)

    def _merge(self, removals: Removals, sets: Sets) -> None:
        sizes = sets.sizes.to(removals.sets.device).double()
        sizes = sizes.expand(self.groups, -1, -1).gather(2, removals.sets)
        # What follows a dear removal in its own sequence is as near as that one.
        prices = (removals.increments / sizes).cummax(2).values
        turn = prices.flatten().argsort(stable=True).argsort().reshape(prices.shape)
        costs = torch.empty_like(turn).scatter_(2, removals.sets, turn)
        self.costs = costs.flatten().double()
        self.scores = torch.zeros(self.shape, device=costs.device)

    def _group(self, removals: Removals, group_of: Tensor) -> None:
        filters, d = self.shape[0], len(group_of)
        steps = removals.sets.shape[2]
        turns = torch.arange(steps, dtype=torch.double, device=group_of.device).expand_as(removals.sets)
        full = (self.groups, removals.sets.shape[1], d)
        scores = torch.full(full, float(steps), dtype=torch.double, device=group_of.device)
        self.scores = scores.scatter_(2, removals.sets, turns).reshape(self.shape)
        number = int(group_of.max()) + 1
        owner = group_of[removals.sets].flatten(0, 1)
        costs = torch.zeros((filters, number), dtype=torch.double, device=group_of.device)
        costs.scatter_add_(1, owner, removals.increments.flatten(0, 1))
        positions = d // self.shape[1]
        # The pattern counts its units position by position, then filter by filter.
        self.costs = costs.reshape(filters, positions, -1).transpose(0, 1).flatten()
