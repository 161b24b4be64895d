"""The engine with the call signature of onnxruntime.InferenceSession, as a drop-in replacement.

    import secateur as ort                # was: import onnxruntime as ort

    session = ort.InferenceSession("model.onnx", sess_options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: images})

What concerns other devices (io bindings, OrtValues, captured graphs) is not offered; its methods say so.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np

from secateur.engine.session import Session, compile_onnx
from secateur.engine.signature import Argument, ModelMetadata
from secateur.errors import EngineError

PROVIDER = "CPUExecutionProvider"
_OWN_OPTIONS = ("batch", "primitive", "format", "tune", "denormals")
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
    kwargs           batch, primitive, format, tune and denormals, as `secateur.compile` has them
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
                raise EngineError(f"InferenceSession has no option '{name}'; it can be {', '.join(_OWN_OPTIONS)}.")
        threads = getattr(sess_options, "intra_op_num_threads", 0) or None
        own = {name: value for name, value in kwargs.items() if name in _OWN_OPTIONS}
        self.session: Session = compile_onnx(path_or_bytes, threads=threads, **own)
        self._sess_options = sess_options
        self._others = ThreadPoolExecutor(1, "secateur-async")

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[np.ndarray]:
        """The outputs named, or all of them, in order. `run_options` has no effect.

        raises    EngineError  an input is missing or does not fit, or an output is unknown
        """
        known = [argument.name for argument in self.session.outputs]
        for name in output_names or ():
            if name not in known:
                raise EngineError(f"The model has no output '{name}'; its outputs are {', '.join(known)}.")
        made = self.session.run({name: self._array(name, value) for name, value in input_feed.items()})
        return [made[name] for name in output_names or known]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[np.ndarray], Any, str], object],
        user_data: Any,
        run_options: Any = None,
    ) -> None:
        """`run` on another thread; `callback` gets the results, `user_data`, and what went wrong or ""."""

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
        """The options that were given."""
        return self._sess_options

    def get_providers(self) -> list[str]:
        """The CPU."""
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The CPU has none."""
        return {PROVIDER: {}}

    def set_providers(self, providers: Sequence[Any] | None = None, provider_options: Any = None) -> None:
        """Without effect: everything runs on the CPU."""

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
            raise EngineError("Profiles are not written to a file; session.profile() gives the time of every layer.")
        return ""

    def _array(self, name: str, value: Any) -> np.ndarray:
        """Lists become arrays of the input's type; arrays stay as they are."""
        if isinstance(value, np.ndarray):
            return cast("np.ndarray", value)
        wanted = next((argument.numpy for argument in self.session.inputs if argument.name == name), None)
        return np.asarray(value, wanted)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        """Methods that belong to other devices: they are there, and say what to use."""
        if name not in _NOT_OFFERED:
            raise AttributeError(f"'InferenceSession' object has no attribute '{name}'")

        def refuse(*arguments: Any, **options: Any) -> NoReturn:
            raise EngineError(
                f"{name} is not offered: arrays stay in this process's memory, so there is nothing to bind. "
                "Use run(output_names, input_feed)."
            )

        return refuse


def _node_arg(argument: Argument) -> NodeArg:
    return NodeArg(argument.name, _type(argument.dtype), list(argument.sides))


def _type(dtype: str) -> str:
    """As ONNX Runtime writes it: float32 is "tensor(float)"."""
    special = {"float32": "float", "float64": "double", "object": "string"}
    return f"tensor({special.get(dtype, dtype)})"
