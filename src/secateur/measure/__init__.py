"""Figures that may be compared: interleaved times, memory, accuracy, what the zeros gave. Without torch."""

from secateur.measure import litert_runtime as _litert  # noqa: F401  (registers itself)
from secateur.measure import onnxruntime_runtime as _onnxruntime  # noqa: F401
from secateur.measure import openvino_runtime as _openvino  # noqa: F401
from secateur.measure import secateur_runtime as _secateur  # noqa: F401
from secateur.measure.accuracy import RuntimeAccuracy, accuracy_of
from secateur.measure.advice import advice
from secateur.measure.benchmark import benchmark
from secateur.measure.clock import Ratio, Timing, ratio, same, time_interleaved
from secateur.measure.comparison import SIMULATED, Answers, Comparison, compare_runtimes
from secateur.measure.doctor import Examination, Feature, examine
from secateur.measure.failure import Failure, RunError
from secateur.measure.layers import PROFILERS, LayerTime, LayerTimes, layer_times
from secateur.measure.machine import Machine, machine, usable_cpus
from secateur.measure.memory import peak_memory
from secateur.measure.provenance import provenance, provenance_line
from secateur.measure.result import BenchmarkResult, Row, RowFailure
from secateur.measure.runtime import Runner, Runtime, Subject, ignores_zeros, installed_runtimes, runtimes
from secateur.measure.speedup import (
    Expected,
    Speedup,
    SpeedupTable,
    efficiency,
    expected_of,
    expected_of_sparsity,
    speedup_table,
)
from secateur.measure.subjects import subjects_of

__all__ = [
    "PROFILERS",
    "SIMULATED",
    "Answers",
    "BenchmarkResult",
    "Comparison",
    "Examination",
    "Expected",
    "Failure",
    "Feature",
    "LayerTime",
    "LayerTimes",
    "Machine",
    "Ratio",
    "Row",
    "RowFailure",
    "RunError",
    "Runner",
    "Runtime",
    "RuntimeAccuracy",
    "Speedup",
    "SpeedupTable",
    "Subject",
    "Timing",
    "accuracy_of",
    "advice",
    "benchmark",
    "compare_runtimes",
    "efficiency",
    "examine",
    "expected_of",
    "expected_of_sparsity",
    "ignores_zeros",
    "installed_runtimes",
    "layer_times",
    "machine",
    "peak_memory",
    "provenance",
    "provenance_line",
    "ratio",
    "runtimes",
    "same",
    "speedup_table",
    "subjects_of",
    "time_interleaved",
    "usable_cpus",
]
