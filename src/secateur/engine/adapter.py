"""The engine with the call signature of onnxruntime.InferenceSession, as a drop-in replacement.

    import secateur as ort                # was: import onnxruntime as ort

    session = ort.InferenceSession("model.onnx", sess_options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: images})

Errors are caught by what catches those of ONNX Runtime (`adapter_errors`). What concerns other devices (io bindings,
captured graphs) is not offered; its methods say so.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from secateur.engine.adapter_errors import (
    Failure,
    InvalidArgument,
    InvalidModel,
    InvalidOption,
    InvalidProtobuf,
    MissingInput,
    NoSuchFile,
    NoTensor,
    NotOffered,
    WrongType,
)
from secateur.engine.session import Session, compile_onnx
from secateur.engine.signature import Argument, ModelMetadata
from secateur.errors import EngineError, ModelError, SecateurError

PROVIDER = "CPUExecutionProvider"
_OWN_OPTIONS = ("batch", "primitive", "format", "tune", "denormals", "precision")
# Options of ONNX Runtime's class that change nothing here: there is one provider and one set of optimisations.
_WITHOUT_EFFECT = ("enable_fallback", "read_config_from_model", "disabled_optimizers")
_NOT_OFFERED = (
    "create_ortvalue_from_shape_and_type", "get_input_epdevices", "get_input_memory_infos", "get_output_memory_infos",
    "get_provider_graph_assignment_info", "io_binding", "release_captured_graph", "run_with_iobinding",
    "run_with_ort_values", "run_with_ortvaluevector", "set_ep_dynamic_options", "set_tuning_results",
)  # fmt: skip


@dataclass(frozen=True)
class NodeArg:
    """An input or output; open sides of the shape are their names, or None."""

    name: str
    type: str
    shape: list[int | str | None]


class InferenceSession:
    """A compiled network.

    path_or_bytes    an ONNX file, or its bytes
    sess_options     an onnxruntime.SessionOptions; `intra_op_num_threads` counts, 0 are all cores
    providers, provider_options    accepted and without effect: everything runs on the CPU
    kwargs           batch, primitive, format, tune, denormals and precision, as `secateur.compile` has them
    raises           ModelError, EngineError
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: Any = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            if name not in (*_OWN_OPTIONS, *_WITHOUT_EFFECT):
                raise WrongType(f"InferenceSession has no option '{name}'; it can be {', '.join(_OWN_OPTIONS)}.")
        if sess_options is not None and not hasattr(sess_options, "intra_op_num_threads"):
            kind = type(sess_options).__name__
            raise WrongType(f"sess_options must be an onnxruntime.SessionOptions; it is of type {kind}.")
        threads = getattr(sess_options, "intra_op_num_threads", 0) or None
        own = {name: value for name, value in kwargs.items() if name in _OWN_OPTIONS}
        self.session: Session = _compiled(path_or_bytes, threads, own)
        self._sess_options: Any = sess_options
        self._others = ThreadPoolExecutor(1, "secateur-async")

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[np.ndarray]:
        """The outputs named, or all of them, in order. `run_options` has no effect.

        raises    EngineError  an input is missing or does not fit, or an output is unknown
        """
        self._check_run(output_names, input_feed, run_options)
        known = [argument.name for argument in self.session.outputs]
        for name in output_names or ():
            if name not in known:
                raise InvalidArgument(f"The model has no output '{name}'; its outputs are {', '.join(known)}.")
        feeds = {name: self._array(name, value) for name, value in input_feed.items()}
        try:
            made = self._of_nothing(feeds) if self._nothing(feeds) else self.session.run(feeds)
        except SecateurError as error:
            raise (Failure if error.__cause__ else InvalidArgument)(str(error)) from error
        return [made[name] for name in output_names or known]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[np.ndarray], Any, str], object],
        user_data: Any,
        run_options: Any = None,
    ) -> None:
        """`run` on another thread; `callback` gets the results, `user_data`, and what went wrong or "".

        raises    EngineError  at once where an input is missing
        """
        self._check_run(output_names, input_feed, run_options)

        def report(done: Future[list[np.ndarray]]) -> None:
            error = done.exception()
            callback([] if error else done.result(), user_data, str(error) if error else "")

        self._others.submit(self.run, output_names, input_feed, run_options).add_done_callback(report)

    def get_inputs(self) -> list[NodeArg]:
        """Name, type and shape of every input."""
        return [_node_arg(argument) for argument in self.session.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """Name, type and shape of every output."""
        return [_node_arg(argument) for argument in self.session.outputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """None: constants are compiled in."""
        return []

    def get_modelmeta(self) -> ModelMetadata:
        """What the file says about itself."""
        return self.session.metadata

    def get_session_options(self) -> Any:
        """The options that were given, or those that ONNX Runtime starts from."""
        if self._sess_options is None:
            self._sess_options = import_module("onnxruntime").SessionOptions()
        return self._sess_options

    def get_providers(self) -> list[str]:
        """The CPU."""
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The CPU has none."""
        return {PROVIDER: {}}

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        """Without effect: everything runs on the CPU. raises EngineError where they are no providers."""
        fits = isinstance(providers, Sequence | None) and all(
            isinstance(each, str)
            or (isinstance(each, tuple) and [type(part) for part in cast("tuple[Any]", each)] == [str, dict])
            for each in cast("Sequence[Any]", providers or ())
        )
        if not fits:
            raise InvalidOption(f"Providers are names or pairs (name, options); {providers!r} is not.")

    def enable_fallback(self) -> None:
        """Without effect: nodes without a kernel always go to ONNX Runtime (`secateur explain` names them)."""

    def disable_fallback(self) -> None:
        """Without effect, as `enable_fallback`."""

    def get_tuning_results(self) -> list[Any]:
        """None: results of tuning are in the user's cache."""
        return []

    def get_profiling_start_time_ns(self) -> int:
        """0: nothing is profiled unless asked."""
        return 0

    def end_profiling(self) -> str:
        """No file is written; `session.profile()` has times of layers. raises EngineError where one was asked for."""
        if getattr(self._sess_options, "enable_profiling", False):
            raise NotOffered("Profiles are not written to a file; session.profile() gives the time of every layer.")
        return ""

    def _check_run(self, output_names: Any, input_feed: Any, run_options: Any) -> None:
        """What ONNX Runtime checks before it starts."""
        if not isinstance(input_feed, Mapping):
            raise WrongType(f"input_feed must map names to arrays; it is of type {type(input_feed).__name__}.")
        if isinstance(output_names, str) or not all(isinstance(name, str) for name in output_names or ()):
            raise WrongType(f"output_names must be a list of names or None; it is {output_names!r}.")
        if run_options is not None and not hasattr(run_options, "only_execute_path_to_fetches"):
            kind = type(run_options).__name__
            raise WrongType(f"run_options must be an onnxruntime.RunOptions; it is of type {kind}.")
        feeds = cast("Mapping[str, Any]", input_feed)
        missing = [str(argument) for argument in self.session.inputs if argument.name not in feeds]
        if missing:
            raise MissingInput(f"Inputs are missing: {'; '.join(missing)}.")

    def _array(self, name: str, value: Any) -> np.ndarray:
        """Lists become arrays of the input's type; arrays stay as they are."""
        if isinstance(value, np.ndarray):
            return cast("np.ndarray", value)
        kind = type(value).__name__
        if not isinstance(value, list | tuple) and (np.isscalar(value) or not hasattr(value, "__array__")):
            raise NoTensor(f"Input '{name}' is of type {kind}; it must be an array or a list of numbers.")
        wanted = next((argument.numpy for argument in self.session.inputs if argument.name == name), None)
        try:
            return np.asarray(value, wanted)
        except (TypeError, ValueError) as error:
            raise NoTensor(f"Input '{name}' is of type {kind}, and no array: {error}.") from error

    def _nothing(self, feeds: Mapping[str, np.ndarray]) -> bool:
        """Does an array have no elements, only because a side is 0 that the model leaves open."""
        open_sides = {argument.name: [side is None for side in argument.shape] for argument in self.session.inputs}
        return any(
            array.size == 0
            and array.ndim == len(open_sides.get(name, ()))
            and all(side or free for side, free in zip(array.shape, open_sides[name], strict=True))
            for name, array in feeds.items()
        )

    def _of_nothing(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Empty outputs, of the shape to which those of one and of two images lead."""

        def filled(size: int) -> dict[str, np.ndarray]:
            return {
                name: array if array.size else np.zeros([side or size for side in array.shape], array.dtype)
                for name, array in feeds.items()
            }

        one, two = self.session.run(filled(1)), self.session.run(filled(2))
        made: dict[str, np.ndarray] = {}
        for name, array in one.items():
            shape = [2 * side - twice for side, twice in zip(array.shape, two[name].shape, strict=True)]
            if 0 not in shape:
                raise EngineError(
                    f"Output '{name}' has elements even where an input has none; give at least one image."
                )
            made[name] = np.zeros(shape, array.dtype)
        return made

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        """Methods that belong to other devices: they are there, and say what to use."""
        if name not in _NOT_OFFERED:
            raise AttributeError(f"'InferenceSession' object has no attribute '{name}'")

        def refuse(*arguments: Any, **options: Any) -> NoReturn:
            raise NotOffered(
                f"{name} is not offered: arrays stay in this process's memory, so there is nothing to bind. "
                "Use run(output_names, input_feed).",
            )

        return refuse


def _compiled(model: Any, threads: int | None, options: Mapping[str, Any]) -> Session:
    if not isinstance(model, str | bytes | os.PathLike | onnx.ModelProto):
        raise WrongType(f"A model is a file or its bytes; this is of type {type(model).__name__}.")
    try:
        return compile_onnx(cast("Any", model), threads=threads, **options)
    except ModelError as error:
        damaged = isinstance(error.__cause__, DecodeError)
        if isinstance(model, str | os.PathLike):
            file = Path(cast("str", model))
            damaged |= file.is_dir()
            if not file.exists():
                raise NoSuchFile(str(error)) from error
        raise (InvalidProtobuf if damaged else InvalidModel)(str(error)) from error
    except EngineError as error:
        raise (Failure if error.__cause__ else InvalidOption)(str(error)) from error


def _node_arg(argument: Argument) -> NodeArg:
    return NodeArg(argument.name, _type(argument.dtype), list(argument.sides))


def _type(dtype: str) -> str:
    """As ONNX Runtime writes it: float32 is "tensor(float)"."""
    special = {"float32": "float", "float64": "double", "object": "string"}
    return f"tensor({special.get(dtype, dtype)})"
