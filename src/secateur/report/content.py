"""What the page says, as facts: numbers with their meaning, no words and no layout.

    drop            dense top-1 - compressed top-1, in points; negative when the compressed network is better
    standard error  100 * sqrt(p (1 - p) / n) of an accuracy p measured on n images
    expected        what the removed weights, or the removed MACs, promise
    achieved        best dense time / compressed time
    efficiency      achieved / expected

Source of the definitions: ALGORITHMS A3 and I1 (see docs/vocabulary.md).
"""

import math
from dataclasses import dataclass, field

from secateur.graph import Census, StructureRow
from secateur.measure import LayerTimes, Ratio, RuntimeAccuracy, Timing
from secateur.report.after_training import AfterTraining
from secateur.report.quantization import Quantization

# How runtimes write their own names; one that is not listed goes by the word of the command line.
_RUNTIME_TITLES = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "secateur": "Secateur",
    "litert": "LiteRT",
}


def runtime_title(name: str) -> str:
    """`ONNX Runtime` for `onnxruntime`."""
    return _RUNTIME_TITLES.get(name, name)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on the test images; top-1 and top-5 in percent, loss in nats."""

    top1: float
    top5: float
    loss: float
    images: int

    @property
    def standard_error(self) -> float:
        """Of top-1, in points: how far another test set of this size would typically differ."""
        p = self.top1 / 100
        return 100 * math.sqrt(p * (1 - p) / self.images) if self.images else math.inf


@dataclass(frozen=True)
class AccuracyChange:
    """The network before and after compression on the same test images; either may not have been measured."""

    dense: Accuracy | None
    compressed: Accuracy | None

    @property
    def drop(self) -> float | None:
        """Points of top-1 lost."""
        if self.dense is None or self.compressed is None:
            return None
        return self.dense.top1 - self.compressed.top1

    @property
    def drop_error(self) -> float | None:
        """Standard error of the drop in points, as if both had been measured on different images.

        Both see the same images and mostly fail on the same ones, so the true error is smaller.
        """
        if self.dense is None or self.compressed is None:
            return None
        return math.hypot(self.dense.standard_error, self.compressed.standard_error)


@dataclass(frozen=True)
class Agreement:
    """How near the sparse network's answers are to the dense one's: divergence in nats, same class in percent."""

    divergence: float
    same_class: float
    images: int


@dataclass(frozen=True)
class RuntimeAccuracies:
    """Top-1 and top-5, in percent, of both exported networks in one runtime; every runtime sees the same images."""

    runtime: str
    dense: RuntimeAccuracy | None
    compressed: RuntimeAccuracy | None


@dataclass(frozen=True)
class Storage:
    """How one tensor lies in weights.safetensors."""

    format: str
    bytes: int
    dense_bytes: int


@dataclass(frozen=True)
class Layer:
    """One layer before and after; `skipped` is the reason why it was left dense.

    nonzeros, macs, sparse_macs    measured in the network that was exported; MACs of one image
    level                          sparsity that the plan asked for, as a fraction
    note                           what the census wants to be known: not reached, shared, reached twice
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    nonzeros: int
    macs: int
    sparse_macs: int
    pattern: str | None = None
    level: float | None = None
    skipped: str | None = None
    storage: Storage | None = None
    note: str = ""

    @property
    def sparsity(self) -> float:
        return 1 - self.nonzeros / self.weights if self.weights else 0.0

    @property
    def expected_speedup(self) -> float | None:
        """Dense MACs / MACs left; None when nothing is left or nothing was there."""
        return self.macs / self.sparse_macs if self.sparse_macs else None


@dataclass(frozen=True)
class FileSize:
    """A file of the artifact beside its dense counterpart, in bytes."""

    name: str
    dense: int | None
    compressed: int

    @property
    def ratio(self) -> float | None:
        """Dense / compressed."""
        return self.dense / self.compressed if self.dense is not None and self.compressed else None


@dataclass(frozen=True)
class Latency:
    """Dense and compressed network in one runtime at one batch and thread count; what failed has no timing.

    within                     dense / compressed in this runtime, from paired rounds, with its 95 % interval
    best_dense                 the runtime whose dense network is fastest at this batch and thread count
    achieved                   its dense median / this runtime's compressed median
    expected_...               what weights and MACs promise; None where the network was not counted
    efficiency_...             achieved / expected, as a fraction
    failures, memory           by network: why there is no figure; peak bytes
    """

    runtime: str
    version: str
    uses_zeros: str
    ignores_zeros: bool
    batch: int
    threads: int
    dense: Timing | None
    compressed: Timing | None
    within: Ratio | None = None
    best_dense: str | None = None
    achieved: float | None = None
    expected_parameters: float | None = None
    expected_macs: float | None = None
    efficiency_parameters: float | None = None
    efficiency_macs: float | None = None
    failures: dict[str, str] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return runtime_title(self.runtime)


@dataclass(frozen=True)
class ExportCheck:
    """The exported file against the network in torch, on real images; agreement in percent of them.

    max_rel_error, tolerance    of the largest absolute logit; the file passes below the tolerance
    """

    subject: str
    max_abs_error: float
    max_rel_error: float
    tolerance: float
    top1_agreement: float
    images: int


@dataclass(frozen=True)
class Epoch:
    """One epoch of training; `index` counts from 1 over all stages, `sparsity` is a fraction."""

    index: int
    stage: str
    epoch: int
    learning_rate: float | None
    loss: float | None
    train_top1: float | None
    top1: float | None
    top5: float | None
    test_loss: float | None
    sparsity: float | None
    seconds: float | None


@dataclass(frozen=True)
class StageTime:
    """One stage of the recipe; `seconds` is None while it is not finished."""

    name: str
    kind: str
    seconds: float | None


@dataclass(frozen=True)
class Technique:
    """What the sparsify stage was asked for; sparsity and what was planned as fractions of the weights of `base`."""

    pattern: str
    sparsity: float
    planned: float
    base: str
    criterion: str
    allocation: str


@dataclass(frozen=True)
class Level:
    """One level of a table of levels: its folder in the run, its counts, and how well it does."""

    folder: str
    census: Census
    accuracy: Accuracy | None
    weights_bytes: int | None


@dataclass(frozen=True)
class Content:
    """Everything that one report says. What a run did not do is None or empty.

    dense, compressed    counts of the exported networks
    agreement            on images without labels, of sparsity after training
    after_training       of sparsity after training: images, levels, steps
    quantization         numbers of fewer bits: layers, runtimes, files
    levels               of a run over a table of levels, in order
    machine              as the run recorded it, flattened: (what, value)
    layer_times          of both networks, layer by layer, in each runtime that tells
    advice               one sentence for each batch and thread count: which technique pays here
    load, cpus           load average and usable CPUs of the machine when it was benchmarked
    """

    title: str
    model: str
    data: str
    command: str
    started: str
    finished: bool
    recipe: str
    machine: tuple[tuple[str, str], ...]
    stages: tuple[StageTime, ...]
    technique: Technique | None = None
    accuracy: AccuracyChange | None = None
    agreement: Agreement | None = None
    after_training: AfterTraining | None = None
    quantization: Quantization | None = None
    runtime_accuracy: tuple[RuntimeAccuracies, ...] = ()
    dense: Census | None = None
    compressed: Census | None = None
    layers: tuple[Layer, ...] = ()
    structure: tuple[StructureRow, ...] = ()
    files: tuple[FileSize, ...] = ()
    latencies: tuple[Latency, ...] = ()
    layer_times: tuple[LayerTimes, ...] = ()
    advice: tuple[str, ...] = ()
    load: float | None = None
    cpus: int | None = None
    checks: tuple[ExportCheck, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    levels: tuple[Level, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(stage.seconds or 0.0 for stage in self.stages)
