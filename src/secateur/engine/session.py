"""A compiled network that runs: `compile_onnx` makes it, `run` computes.

    session = secateur.compile("model.onnx")
    outputs = session.run({"input": images})

A session keeps one plan for each shape of its inputs, made when that shape first comes; the least recently used goes
first. Calls from several threads are safe, and wait for each other. Results do not depend on the number of threads,
and the same session gives the same bits for the same inputs.
"""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from secateur.engine.choose import check_primitive
from secateur.engine.native import MAX_THREADS
from secateur.engine.options import Options, check_precision
from secateur.engine.plan import Plan, make_plan
from secateur.engine.profile import Profile, make_profile
from secateur.engine.program import Kernel
from secateur.engine.report import Report, make_report
from secateur.engine.signature import Argument, Shapes, checked, closed, metadata, signature
from secateur.engine.target import host_target
from secateur.errors import EngineError, ModelError
from secateur.graph.ir import Graph
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.read import read_stored, stored
from secateur.graph.stored import StoredModel
from secateur.registry import unknown

MOST_PLANS = 4
Feeds = Mapping[str, np.ndarray] | np.ndarray


class Session:
    """A network ready to run on this machine.

    model      an ONNX file, or a model in memory
    batch      what the first side of inputs is compiled for at once, where the model leaves it open. Where the model
               leaves other sides open too, nothing is compiled before the first run
    inputs, outputs    what goes in and out
    metadata           what the file says about itself
    raises     ModelError, EngineError
    """

    def __init__(self, model: Path | onnx.ModelProto, batch: int, options: Options) -> None:
        check_primitive(options.primitive)
        _check(batch, options)
        self.options = options
        self.target = host_target()
        check_precision(options.precision, self.target)
        self._closed = False
        self._lock = threading.RLock()
        self._plans: OrderedDict[Shapes, Plan] = OrderedDict()
        self._model = model
        self._stamp = _stamp(model)
        given = self._stored()
        self.inputs: tuple[Argument, ...]
        self.outputs: tuple[Argument, ...]
        self.inputs, self.outputs = signature(given.proto)
        self.metadata = metadata(given.proto)
        self._shapes = closed(self.inputs, batch)
        if self._shapes is not None:
            graph = _graph(given, self._shapes)
            del given
            self.outputs = tuple(argument.completed(graph) for argument in self.outputs)
            plan = self._plans[self._shapes] = make_plan(graph, self.target, options)
            _check_layers(options.primitive, [fact.layer for fact in plan.layers])
        _sessions.add(self)

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Outputs by name.

        feeds     an array for every input; where a side is open, of any size of at least 1. A model with one input
                  takes the array alone
        raises    EngineError  an input is missing, unknown, or of another shape or type
        """
        with self._lock:
            given = self._named(feeds)
            return self._plan_for(checked(self.inputs, given)).run(given)

    def report(self) -> Report:
        """How every layer of the most recently used plan is computed, and why."""
        with self._lock:
            return make_report(self._latest(), self.target, self.options.threads)

    def profile(self, feeds: Feeds | None = None, rounds: int = 20, *, against_dense: bool = True) -> Profile:
        """The report with the time of every layer, and of the same layer computed dense.

        feeds            inputs; random numbers when not given
        rounds           runs of which the median counts
        against_dense    also compile and time the network with all zeros kept as weights
        raises           EngineError
        """
        with self._lock:
            _check_whole("rounds", rounds)
            if rounds < 1:
                raise EngineError(f"{rounds} rounds time nothing; at least 1.")
            given = self.random_feeds() if feeds is None else self._named(feeds)
            shapes = checked(self.inputs, given)
            plan = self._plan_for(shapes)
            dense = None
            if against_dense and any(fact.choice and fact.choice.format != "dense" for fact in plan.layers):
                options = replace(self.options, format="dense")
                dense = make_plan(_graph(self._stored(), shapes), self.target, options)
            return make_profile(plan, dense, self.target, self.options.threads, given, rounds)

    def kernels(self) -> dict[str, Kernel]:
        """Every kernel of the most recently used plan, by name."""
        with self._lock:
            return self._latest().kernels()

    def random_feeds(self, batch: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Standard normal inputs (zeros for whole numbers), of a batch size.

        raises    EngineError  the model leaves more than the batch open, and nothing has run yet
        """
        shapes = self._shapes if batch is None else closed(self.inputs, batch)
        if shapes is None:
            names = ", ".join(str(argument) for argument in self.inputs)
            raise EngineError(f"The model leaves the shape of its inputs open ({names}); give arrays.")
        rng = np.random.default_rng(seed)
        feeds: dict[str, np.ndarray] = {}
        for argument, (name, shape) in zip(self.inputs, shapes, strict=True):
            kind = argument.numpy
            values = rng.standard_normal(shape) if kind.kind == "f" else np.zeros(shape)
            feeds[name] = values.astype(kind)
        return feeds

    def close(self) -> None:
        """Free the memory of all plans. The session cannot run afterwards; closing twice does nothing."""
        with self._lock:
            self._closed = True
            self._plans.clear()
            self._model = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.target.isa}, {self.options.threads} threads"
        inputs, outputs = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"<secateur.Session {inputs} -> {outputs}; {state}>"

    def __str__(self) -> str:
        return str(self.report())

    def forget_lock(self) -> None:
        """In a forked child nobody runs this session, whatever another thread of the parent did."""
        self._lock = threading.RLock()

    # Plans

    def _latest(self) -> Plan:
        if not self._plans:
            raise EngineError(
                "The session is closed."
                if self._closed
                else "Nothing is compiled before the first run: the model leaves the shape of its inputs open."
            )
        return next(reversed(self._plans.values()))

    def _plan_for(self, shapes: Shapes) -> Plan:
        if shapes not in self._plans:
            graph = _graph(self._stored(), shapes)
            self._plans[shapes] = make_plan(graph, self.target, self.options)
            self._shapes = self._shapes or shapes
            while len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(shapes)
        return self._plans[shapes]

    def _named(self, feeds: Feeds) -> Mapping[str, np.ndarray]:
        if self._closed:
            raise EngineError("The session is closed.")
        if isinstance(feeds, Mapping):
            return feeds
        if len(self.inputs) != 1:
            names = ", ".join(argument.name for argument in self.inputs)
            raise EngineError(f"The model has the inputs {names}: give a mapping from their names to arrays.")
        return {self.inputs[0].name: feeds}

    def _stored(self) -> StoredModel:
        """The model again: weights are not kept twice, so another batch size reads the file once more."""
        if self._model is None:
            raise EngineError("The session is closed.")
        if isinstance(self._model, onnx.ModelProto):
            return stored(self._model)
        if _stamp(self._model) != self._stamp:
            raise EngineError(f"{self._model} has changed since it was compiled; compile it again.")
        return read_stored(self._model)


def compile_onnx(
    model: str | os.PathLike[str] | onnx.ModelProto | bytes,
    *,
    threads: int | None = None,
    batch: int = 1,
    primitive: str | Mapping[str, str] = "auto",
    format: str = "auto",
    tune: bool = False,
    denormals: str = "keep",
    precision: str = "float32",
) -> Session:
    """Compile an ONNX model for this machine.

    model        a file, or a model in memory
    threads      of one run; the cores that this process may use when not given
    batch        batch size that is compiled at once; others follow when they come
    primitive    how convolutions read their input: direct, gemm (im2col), pack (spatial pack), or auto for the best of
                 each layer; a mapping gives single layers
    format       auto uses the zeros where that is faster, dense ignores them
    tune         time candidates on this machine (seconds; results are kept in the user's cache), and let ONNX Runtime
                 run the network if it is clearly faster
    denormals    keep, or flush
    precision    float32; or bf16, on processors that have it: convolutions and products with weights round what they
                 multiply to 8 significant bits, and sum in float32
    raises       ModelError, EngineError
    """
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(model, bytes):
        model = _parsed(model)
    # Another batch size reads the file again, wherever the process has gone by then.
    source = model if isinstance(model, onnx.ModelProto) else Path(model).absolute()
    return Session(source, batch, Options(threads, primitive, format, tune, denormals, precision))


def _parsed(data: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise ModelError(f"These {len(data):,} bytes are not an ONNX model, or are damaged or cut off.") from error
    return model


def _graph(model: StoredModel, shapes: Shapes) -> Graph:
    return simplify(load_graph(model, batch=None, input_shapes=dict(shapes)))


def _check_layers(primitive: str | Mapping[str, str], layers: Collection[str]) -> None:
    for name in () if isinstance(primitive, str) else primitive:
        if name not in layers:
            raise EngineError(f"primitive: {unknown('layer', name, layers)}")


def _check_whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise EngineError(f"{name} is a whole number, not {value!r}.")


def _check(batch: int, options: Options) -> None:
    _check_whole("batch", batch)
    _check_whole("threads", options.threads)
    if batch < 1:
        raise EngineError(f"A batch of {batch} has no images; it is at least 1.")
    if not 1 <= options.threads <= MAX_THREADS:
        raise EngineError(f"{options.threads} threads are impossible; 1 to {MAX_THREADS} are possible.")
    if options.format not in ("auto", "dense"):
        raise EngineError(f"format '{options.format}' is unknown; it can be auto or dense.")
    if options.denormals not in ("keep", "flush"):
        raise EngineError(f"denormals '{options.denormals}' is unknown; it can be keep or flush.")


def _stamp(model: Path | onnx.ModelProto) -> tuple[int, int] | None:
    if isinstance(model, onnx.ModelProto) or not model.is_file():
        return None
    status = model.stat()
    return status.st_mtime_ns, status.st_size


_sessions: "weakref.WeakSet[Session]" = weakref.WeakSet()


def _forget_locks() -> None:
    for session in list(_sessions):
        session.forget_lock()


os.register_at_fork(after_in_child=_forget_locks)
