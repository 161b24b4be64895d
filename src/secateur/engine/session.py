"""A compiled network that runs: `compile_onnx` makes it, `run` computes.

    session = secateur.compile("model.onnx")
    outputs = session.run({"input": images})

A session keeps one plan per batch size, made when that size first comes; the least recently used goes first. Calls from
several threads are safe, and wait for each other.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from secateur.engine.choose import check_primitive
from secateur.engine.options import Options
from secateur.engine.plan import Plan, make_plan
from secateur.engine.report import Profile, Report, make_profile, make_report
from secateur.engine.target import host_target
from secateur.errors import EngineError
from secateur.graph.ir import Graph
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.read import read_model

MOST_PLANS = 4


@dataclass(frozen=True)
class Argument:
    """An input or output; None in the shape stands for the batch where the file leaves it open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Session:
    """A network ready to run on this machine.

    model      an ONNX file, or a model in memory
    batch      batch size of the first plan, where the model leaves it open
    inputs, outputs    what goes in and out
    raises     ModelError, EngineError
    """

    def __init__(self, model: Path | onnx.ModelProto, batch: int, options: Options) -> None:
        check_primitive(options.primitive)
        self.options = options
        self.target = host_target()
        self._model = model
        self._stamp = _stamp(model)
        self._plans: OrderedDict[int, Plan] = OrderedDict()
        self._lock = threading.RLock()
        proto = read_model(model) if isinstance(model, Path) else model
        self._open = _open_batches(proto)
        graph = self._graph(proto, batch)
        self._batch = batch
        self.inputs = tuple(self._argument(graph, name) for name in graph.inputs)
        self.outputs = tuple(self._argument(graph, name) for name in graph.outputs)
        self._plans[batch] = make_plan(graph, self.target, options)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name.

        feeds     an array for every input; where the batch is open, of any size of at least 1
        raises    EngineError  an input is missing, unknown, or of another shape or type
        """
        with self._lock:
            return self._plan_for(self._checked(feeds)).run(feeds)

    def report(self) -> Report:
        """How every layer of the most recently used plan is computed, and why."""
        with self._lock:
            return make_report(next(reversed(self._plans.values())), self.target, self.options.threads)

    def profile(
        self, feeds: Mapping[str, np.ndarray] | None = None, rounds: int = 20, *, against_dense: bool = True
    ) -> Profile:
        """The report with the time of every layer, and of the same layer computed dense.

        feeds            inputs; random numbers when not given
        rounds           runs of which the median counts
        against_dense    also compile and time the network with all zeros kept as weights
        """
        with self._lock:
            feeds = feeds or self.random_feeds()
            plan = self._plan_for(self._checked(feeds))
            dense = None
            if against_dense and any(fact.choice and fact.choice.format != "dense" for fact in plan.layers):
                options = Options(self.options.threads, self.options.primitive, "dense", False, self.options.denormals)
                dense = make_plan(self._graph(self._proto(), plan.batch), self.target, options)
            return make_profile(plan, dense, self.target, self.options.threads, feeds, rounds)

    def random_feeds(self, batch: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Standard normal inputs (zeros for integers) of a batch size."""
        rng = np.random.default_rng(seed)
        feeds: dict[str, np.ndarray] = {}
        for argument in self.inputs:
            shape = tuple(batch or self._batch if side is None else side for side in argument.shape)
            kind = np.dtype(argument.dtype)
            values = rng.standard_normal(shape) if kind.kind == "f" else np.zeros(shape)
            feeds[argument.name] = values.astype(kind)
        return feeds

    def close(self) -> None:
        """Free the memory of all plans. The session cannot run afterwards."""
        with self._lock:
            self._plans.clear()
            self._stamp = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __str__(self) -> str:
        return str(self.report())

    # Plans

    def _plan_for(self, batch: int) -> Plan:
        if batch not in self._plans:
            self._plans[batch] = make_plan(self._graph(self._proto(), batch), self.target, self.options)
            while len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(batch)
        return self._plans[batch]

    def _graph(self, proto: onnx.ModelProto, batch: int) -> Graph:
        return simplify(load_graph(proto, batch=batch))

    def _proto(self) -> onnx.ModelProto:
        """The model again: weights are not kept twice, so another batch size reads the file once more."""
        if isinstance(self._model, onnx.ModelProto):
            return self._model
        if self._stamp is None or _stamp(self._model) != self._stamp:
            raise EngineError(f"{self._model} has changed since it was compiled; compile it again.")
        return read_model(self._model)

    def _argument(self, graph: Graph, name: str) -> Argument:
        kind = graph.types.get(name)
        if kind is None:
            return Argument(name, (), "unknown")
        shape: tuple[int | None, ...] = kind.shape
        return Argument(name, (None, *shape[1:]) if name in self._open else shape, kind.dtype)

    def _checked(self, feeds: Mapping[str, np.ndarray]) -> int:
        """The batch size of feeds that fit the inputs."""
        batches: dict[int, str] = {}
        known = {argument.name for argument in self.inputs}
        for name in feeds:
            if name not in known:
                raise EngineError(f"The model has no input '{name}'; its inputs are {', '.join(sorted(known))}.")
        for argument in self.inputs:
            if argument.name not in feeds:
                raise EngineError(f"Input '{argument.name}' is missing: {_wanted(argument)}.")
            array = feeds[argument.name]
            fits = len(array.shape) == len(argument.shape) and all(
                side == wanted or (wanted is None and side > 0)
                for side, wanted in zip(array.shape, argument.shape, strict=True)
            )
            if not fits or array.dtype.name != argument.dtype:
                raise EngineError(f"Input '{argument.name}' is {array.dtype.name} {array.shape}: {_wanted(argument)}.")
            if argument.shape and argument.shape[0] is None:
                batches[array.shape[0]] = argument.name
        if len(batches) > 1:
            raise EngineError(f"Inputs have different batch sizes: {batches}.")
        return next(iter(batches), self._batch)


def compile_onnx(
    model: str | os.PathLike[str] | onnx.ModelProto | bytes,
    *,
    threads: int | None = None,
    batch: int = 1,
    primitive: str | Mapping[str, str] = "auto",
    format: str = "auto",
    tune: bool = False,
    denormals: str = "keep",
) -> Session:
    """Compile an ONNX model for this machine.

    model        a file, or a model in memory
    threads      of one run; the cores that this process may use when not given
    batch        batch size that is compiled at once; others follow when they come
    primitive    how convolutions read their input: direct, gemm (im2col), pack (spatial pack), or auto for the best of
                 each layer; a mapping gives single layers
    format       auto uses the zeros where that is faster, dense ignores them
    tune         time candidates on this machine (seconds; results are kept in the user's cache)
    denormals    keep, or flush
    raises       ModelError, EngineError
    """
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(model, bytes):
        model = onnx.load_model_from_string(model)
    source = model if isinstance(model, onnx.ModelProto) else Path(model)
    return Session(source, batch, Options(threads, primitive, format, tune, denormals))


def _wanted(argument: Argument) -> str:
    sides = ", ".join("any" if side is None else str(side) for side in argument.shape)
    return f"it must be {argument.dtype} of shape ({sides})"


def _open_batches(proto: onnx.ModelProto) -> set[str]:
    """Inputs and outputs whose first side is open."""
    return {
        value.name
        for value in (*proto.graph.input, *proto.graph.output)
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].dim_value <= 0
    }


def _stamp(model: Path | onnx.ModelProto) -> tuple[int, int] | None:
    if isinstance(model, onnx.ModelProto) or not model.is_file():
        return None
    status = model.stat()
    return status.st_mtime_ns, status.st_size
