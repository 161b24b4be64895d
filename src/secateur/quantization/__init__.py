"""Numbers of few bits for weights and activations: calibrated, learned, written so that runtimes compute with them."""

from secateur.quantization.absorb import Absorbed, absorb_biases
from secateur.quantization.bias_correct import BiasCorrected, correct_biases
from secateur.quantization.bit_search import BitProblem, search_bits
from secateur.quantization.calibrate import calibrate, observe, table_of
from secateur.quantization.column_rounding import ColumnRounding, round_columns
from secateur.quantization.column_walk import RoundedLayer, round_layer
from secateur.quantization.dynamic import quantize_dynamic
from secateur.quantization.equalize import Equalized, equalize
from secateur.quantization.fixed_point import fixed_point, with_fixed_point
from secateur.quantization.guard import Guarded, Returned, guard, without
from secateur.quantization.half import HalfModel, to_half
from secateur.quantization.lapq import JointRanges, joint_ranges
from secateur.quantization.learned_rounding import LearnedRounding, LearnedStretch, LearnOptions, learn_rounding
from secateur.quantization.mixed_precision import (
    BitChoice,
    Sensitivities,
    choose_bits,
    for_accuracy,
    greedy_bits,
    sensitivities,
    with_bits,
)
from secateur.quantization.noise import LayerNoise, Noise, measure_noise
from secateur.quantization.numbers import (
    ACTIVATIONS,
    WEIGHTS,
    Numbers,
    Scale,
    rounded,
    scale_of_range,
    scale_of_tensor,
    to_floats,
    to_integers,
)
from secateur.quantization.observer import Observer
from secateur.quantization.points import Group, Points, WeightPoint, points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.prune_and_round import PrunedAndRounded, prune_and_round
from secateur.quantization.qdq import write_qdq
from secateur.quantization.quantize import QuantizationOptions, Quantized, quantize_model
from secateur.quantization.refine import MixedBits, Refined, Refinements
from secateur.quantization.seen import Seen, Statistics
from secateur.quantization.settings import Override, Settings
from secateur.quantization.simulate import simulated
from secateur.quantization.statistics import load_statistics, save_statistics
from secateur.quantization.suspects import Suspect, Suspects, find_suspects
from secateur.quantization.table import ScaleTable
from secateur.quantization.uncalibrated import ranges_of_network, ranges_of_norms, uncalibrated_table
from secateur.quantization.verify import Verification, verify
from secateur.quantization.weight_only import quantize_weights
from secateur.quantization.weight_steps import fit_weight_steps

__all__ = [
    "ACTIVATIONS",
    "WEIGHTS",
    "Absorbed",
    "BiasCorrected",
    "BitChoice",
    "BitProblem",
    "ColumnRounding",
    "Equalized",
    "Group",
    "Guarded",
    "HalfModel",
    "JointRanges",
    "LayerNoise",
    "LearnOptions",
    "LearnedRounding",
    "LearnedStretch",
    "MixedBits",
    "Noise",
    "Numbers",
    "Observer",
    "Override",
    "Points",
    "PrunedAndRounded",
    "QuantizationOptions",
    "Quantized",
    "Refined",
    "Refinements",
    "Returned",
    "RoundedLayer",
    "Scale",
    "ScaleTable",
    "Seen",
    "Sensitivities",
    "Settings",
    "Statistics",
    "Suspect",
    "Suspects",
    "Verification",
    "WeightPoint",
    "absorb_biases",
    "calibrate",
    "choose_bits",
    "correct_biases",
    "equalize",
    "find_suspects",
    "fit_weight_steps",
    "fixed_point",
    "for_accuracy",
    "greedy_bits",
    "guard",
    "joint_ranges",
    "learn_rounding",
    "load_statistics",
    "measure_noise",
    "observe",
    "points_of",
    "prepared",
    "prune_and_round",
    "quantize_dynamic",
    "quantize_model",
    "quantize_weights",
    "ranges_of_network",
    "ranges_of_norms",
    "round_columns",
    "round_layer",
    "rounded",
    "save_statistics",
    "scale_of_range",
    "scale_of_tensor",
    "search_bits",
    "sensitivities",
    "simulated",
    "table_of",
    "to_floats",
    "to_half",
    "to_integers",
    "uncalibrated_table",
    "verify",
    "with_bits",
    "with_fixed_point",
    "without",
    "write_qdq",
]
