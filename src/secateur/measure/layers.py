"""Time of every layer, from a runtime's own profile, beside what the layer's zeros promised.

    expected_l   weights_l / nonzeros_l            of one layer parameters and MACs shrink alike
    achieved_l   dense time_l / compressed time_l  medians over runs

Two runtimes tell: ONNX Runtime, which ignores zeros, and Secateur's engine, which uses them. A table is of one of them.

A profiler costs a little in every layer, so these times are for comparing layers; whole networks are timed by
clock.py. A layer is found by the name that both files give its node; what fused into it counts with it.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnx

from secateur.errors import ArtifactError, EngineError
from secateur.graph import Census
from secateur.graph.read import read_model
from secateur.graph.table import text_table
from secateur.measure.failure import Failure, RunError, first_line
from secateur.measure.onnxruntime_runtime import open_session
from secateur.measure.runtime import Images
from secateur.measure.secateur_runtime import open_engine

_HEADERS = ("layer", "dense ms", "ms", "share %", "expected", "achieved", "of expected %")


# How ONNX Runtime's profile marks a node's own time, and a node that works on channels in blocks.
_EVENT, _BLOCKED = "_kernel_time", "_nchwc"
_WEIGHTED_OPS = ("Conv", "ConvTranspose", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


@dataclass(frozen=True)
class LayerTime:
    """One layer: medians in milliseconds, share of the compressed network's time in percent.

    expected, achieved    speedups; None where the layer has no zeros left to count or was not found in both files
    """

    name: str
    dense_ms: float | None
    compressed_ms: float | None
    share: float | None
    expected: float | None = None
    achieved: float | None = None

    @property
    def percent_of_expected(self) -> float | None:
        if self.expected is None or self.achieved is None:
            return None
        return 100.0 * self.achieved / self.expected


@dataclass(frozen=True)
class LayerTimes:
    """All layers of the compressed network in order, and the runtime that was profiled."""

    runtime: str
    batch: int
    threads: int
    layers: tuple[LayerTime, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def from_dict(cls, value: Any) -> "LayerTimes":
        """The times that `to_dict` described. raises ArtifactError when it is something else."""
        try:
            layers = tuple(LayerTime(**layer) for layer in value["layers"])
            return cls(str(value["runtime"]), int(value["batch"]), int(value["threads"]), layers)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"these are not times of layers: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        where = f"in {self.runtime}, batch {self.batch}, {self.threads} thread{'s' * (self.threads != 1)}"
        return "\n".join((text_table(_HEADERS, [_cells(layer) for layer in self.layers]), where))


def onnxruntime_times(
    path: Path | str, feed: Images, *, threads: int = 1, runs: int = 20, warmup: int = 5
) -> dict[str, float]:
    """Median milliseconds of everything that ONNX Runtime executes, in order: layers by name, the rest by node.

    feed      images, as many as the file's batch if that is fixed
    raises    RunError  when the file cannot be loaded or run
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(str(path), threads, profile_prefix=str(Path(folder) / "profile"))
        inputs = {session.get_inputs()[0].name: feed}
        try:
            for _ in range(warmup + runs):
                session.run(None, inputs)
        except Exception as error:  # its exceptions share no public base class
            raise RunError(Failure.CRASHED, f"{path}: ONNX Runtime: {first_line(error)}.") from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    layer_of = _layers_by_node(read_model(path))
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_EVENT):
            name: str = event["name"].removesuffix(_EVENT).removesuffix(_BLOCKED)
            if event["args"]["op_name"] in _WEIGHTED_OPS:
                name = layer_of.get(name, name)
            times[name].append(event["dur"] / 1000.0)
    return {name: median(samples[-runs:]) for name, samples in times.items()}


def _layers_by_node(model: onnx.ModelProto) -> dict[str, str]:
    """The convolution or linear layer that ONNX Runtime means by the name of a node or of its output.

    1. A fused layer is called after what comes out of it: the output of the activation, not of the convolution.
    2. Behind the layer may stand several such nodes; each has it as the producer of an input.
    """
    layers: dict[str, str] = {}
    for node in model.graph.node:
        layer = node.name if node.op_type in _WEIGHTED_OPS else _first_known(node.input, layers)
        if layer is not None:
            layers.update(dict.fromkeys((node.name, *node.output), layer))
    return layers


def _first_known(values: Iterable[str], layers: Mapping[str, str]) -> str | None:
    return next((layers[value] for value in values if value in layers), None)


def secateur_times(path: Path | str, feed: Images, *, threads: int = 1, runs: int = 20) -> dict[str, float]:
    """Median milliseconds of everything that the engine computes: layers by name, the rest by operator.

    raises    RunError  when the file cannot be compiled or run
    """
    try:
        with open_engine(str(path), threads, len(feed)) as session:
            profile = session.profile({session.inputs[0].name: feed}, runs, against_dense=False)
    except EngineError as error:
        raise RunError(Failure.CRASHED, f"{path}: {error}") from error
    times = {row.facts.layer: 1e3 * row.seconds for row in profile.layers}
    return times | {name: 1e3 * seconds for name, seconds in profile.others.items()}


# Runtime -> its profile; those that use zeros first.
PROFILERS: dict[str, Callable[..., dict[str, float]]] = {
    "secateur": secateur_times,
    "onnxruntime": onnxruntime_times,
}


def layer_times(
    runtime: str,
    dense: Path | str,
    compressed: Path | str,
    feed: Images,
    census: Census,
    *,
    threads: int = 1,
    runs: int = 20,
) -> LayerTimes:
    """Both files profiled in one runtime, layer by layer.

    runtime   one of PROFILERS
    census    of the compressed network; its layer names are the node names of both files
    raises    RunError  when a file cannot be loaded or run
    """
    profile = PROFILERS[runtime]
    times = {
        "dense": profile(dense, feed, threads=threads, runs=runs),
        "compressed": profile(compressed, feed, threads=threads, runs=runs),
    }
    total = sum(times["compressed"].values())
    layers = []
    for layer in census.layers:
        before, after = (times[network].get(layer.name) for network in ("dense", "compressed"))
        layers.append(
            LayerTime(
                name=layer.name,
                dense_ms=before,
                compressed_ms=after,
                share=None if after is None or not total else 100.0 * after / total,
                expected=layer.weights / layer.nonzeros if layer.nonzeros else None,
                achieved=before / after if before and after else None,
            )
        )
    return LayerTimes(runtime, len(feed), threads, tuple(layers))


def _cells(layer: LayerTime) -> tuple[str, ...]:
    def figure(value: float | None, form: str, unit: str = "") -> str:
        return "-" if value is None else f"{value:{form}}{unit}"

    return (
        layer.name,
        figure(layer.dense_ms, ".4f"),
        figure(layer.compressed_ms, ".4f"),
        figure(layer.share, ".1f"),
        figure(layer.expected, ".2f", "x"),
        figure(layer.achieved, ".2f", "x"),
        figure(layer.percent_of_expected, ".1f"),
    )
