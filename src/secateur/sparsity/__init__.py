"""Zeros in networks: which patterns, where, how many, when, and what was reached."""

from secateur.sparsity.allocation import Allocation, AllocationBase, allocate, allocations
from secateur.sparsity.census import census, structure
from secateur.sparsity.criterion import Criterion, criteria
from secateur.sparsity.layers import Layer, layers_of, stored_weight, unwrapped
from secateur.sparsity.mask import (
    Mask,
    attach_masks_,
    fold_masks_,
    fold_parametrizations_,
    has_masks,
    masks,
    set_mask_,
)
from secateur.sparsity.pattern import Pattern, Remainder, make_mask, mask_rule, parse_pattern, pattern_types
from secateur.sparsity.patterns.blocks import BlockOf
from secateur.sparsity.patterns.unstructured import Unstructured
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.planning import plan_sparsity
from secateur.sparsity.rounding import Rounding, Ties, removed_count
from secateur.sparsity.schedule import AgpEpochs, AgpIterations, OneShot, Schedule, schedules
from secateur.sparsity.selection import Selection, match_layers, select_layers
from secateur.sparsity.sparsifier import Sparsifier
from secateur.sparsity.sparsify import sparsify_

__all__ = [
    "AgpEpochs",
    "AgpIterations",
    "Allocation",
    "AllocationBase",
    "BlockOf",
    "Criterion",
    "Layer",
    "Mask",
    "OneShot",
    "Pattern",
    "PlannedLayer",
    "Remainder",
    "Rounding",
    "Schedule",
    "Selection",
    "Sparsifier",
    "SparsityPlan",
    "Ties",
    "Unstructured",
    "allocate",
    "allocations",
    "attach_masks_",
    "census",
    "criteria",
    "fold_masks_",
    "fold_parametrizations_",
    "has_masks",
    "layers_of",
    "make_mask",
    "mask_rule",
    "masks",
    "match_layers",
    "parse_pattern",
    "pattern_types",
    "plan_sparsity",
    "removed_count",
    "schedules",
    "select_layers",
    "set_mask_",
    "sparsify_",
    "stored_weight",
    "structure",
    "unwrapped",
]
