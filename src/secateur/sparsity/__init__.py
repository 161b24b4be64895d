"""Zeros in networks: which patterns, where, how many, when, and what was reached."""

import secateur.sparsity.scores  # noqa: F401  # pyright: ignore[reportUnusedImport]  (registers the criteria)
from secateur.sparsity.allocation import Allocation, AllocationBase, allocate, total_sparsity
from secateur.sparsity.allocation_options import AllocationOptions
from secateur.sparsity.allocation_problem import Problem, allocations, fill
from secateur.sparsity.allocators.uniform import levels_of_small
from secateur.sparsity.census import census, structure
from secateur.sparsity.criterion import Criterion, ScoreInputs, criteria, score_rule
from secateur.sparsity.hardware_cap import HardwareCaps, LayerSeconds, hardware_cap
from secateur.sparsity.layers import Layer, as_stored, filters_first, layers_of, stored_weight, unwrapped
from secateur.sparsity.levels_file import read_levels
from secateur.sparsity.mask import (
    Mask,
    attach_masks_,
    fold_masks_,
    fold_parametrizations_,
    has_masks,
    keep_all_,
    mask_of,
    masks,
    set_mask_,
    set_scale_,
)
from secateur.sparsity.mask_keeper import MaskKeeper
from secateur.sparsity.pattern import (
    Combine,
    Pattern,
    Remainder,
    make_mask,
    parse_pattern,
    pattern_kind,
    pattern_types,
)
from secateur.sparsity.patterns.blocks import BlockOf
from secateur.sparsity.patterns.four_in import FourIn
from secateur.sparsity.patterns.general import Block
from secateur.sparsity.patterns.kernel import Kernel
from secateur.sparsity.patterns.n_m import NM
from secateur.sparsity.patterns.n_m_2d import SquareNM
from secateur.sparsity.patterns.structures import Channel, Column, Filter, Row
from secateur.sparsity.patterns.unstructured import Unstructured
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.planning import plan_sparsity
from secateur.sparsity.rounding import Rounding, Ties, removed_count
from secateur.sparsity.schedule import Schedule, Timing, schedules
from secateur.sparsity.scheduling.agp import AgpEpochs, AgpIterations, CubicSteps
from secateur.sparsity.scheduling.levels import FixedLevels, RandomLevel
from secateur.sparsity.scheduling.one_shot import OneShot
from secateur.sparsity.scheduling.ramps import Cosine, Exponential, Linear, Polynomial, Ramp
from secateur.sparsity.scoring import Scorer, Scoring
from secateur.sparsity.selection import Selection, match_layers, select_layers
from secateur.sparsity.sensitivity import SensitivityRow, SensitivityTable
from secateur.sparsity.sparsifier import Sparsifier
from secateur.sparsity.sparsify import sparsify_
from secateur.sparsity.statistics import ActivationStatistics, GradientStatistics, LayerStatistics
from secateur.sparsity.threshold_sparsifier import ThresholdSparsifier
from secateur.sparsity.thresholds import BaiduRamp, FixedThresholds, Sensitivities, SpliceRule, ThresholdRule
from secateur.sparsity.tiles import Tiles

__all__ = [
    "NM",
    "ActivationStatistics",
    "AgpEpochs",
    "AgpIterations",
    "Allocation",
    "AllocationBase",
    "AllocationOptions",
    "BaiduRamp",
    "Block",
    "BlockOf",
    "Channel",
    "Column",
    "Combine",
    "Cosine",
    "Criterion",
    "CubicSteps",
    "Exponential",
    "Filter",
    "FixedLevels",
    "FixedThresholds",
    "FourIn",
    "GradientStatistics",
    "HardwareCaps",
    "Kernel",
    "Layer",
    "LayerSeconds",
    "LayerStatistics",
    "Linear",
    "Mask",
    "MaskKeeper",
    "OneShot",
    "Pattern",
    "PlannedLayer",
    "Polynomial",
    "Problem",
    "Ramp",
    "RandomLevel",
    "Remainder",
    "Rounding",
    "Row",
    "Schedule",
    "ScoreInputs",
    "Scorer",
    "Scoring",
    "Selection",
    "Sensitivities",
    "SensitivityRow",
    "SensitivityTable",
    "Sparsifier",
    "SparsityPlan",
    "SpliceRule",
    "SquareNM",
    "ThresholdRule",
    "ThresholdSparsifier",
    "Ties",
    "Tiles",
    "Timing",
    "Unstructured",
    "allocate",
    "allocations",
    "as_stored",
    "attach_masks_",
    "census",
    "criteria",
    "fill",
    "filters_first",
    "fold_masks_",
    "fold_parametrizations_",
    "hardware_cap",
    "has_masks",
    "keep_all_",
    "layers_of",
    "levels_of_small",
    "make_mask",
    "mask_of",
    "masks",
    "match_layers",
    "parse_pattern",
    "pattern_kind",
    "pattern_types",
    "plan_sparsity",
    "read_levels",
    "removed_count",
    "schedules",
    "score_rule",
    "select_layers",
    "set_mask_",
    "set_scale_",
    "sparsify_",
    "stored_weight",
    "structure",
    "total_sparsity",
    "unwrapped",
]
