"""ONNX Runtime on the CPU."""

import importlib.metadata
import importlib.util

import numpy as np

from secateur.measure.failure import Failure, RunError, first_line
from secateur.measure.runtime import Images, Runner, Subject, runtimes


@runtimes.register("onnxruntime")
class OnnxRuntime:
    name = "onnxruntime"
    uses_zeros = "no: its CPU kernels multiply every weight, zero or not."

    def available(self) -> str | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed (pip install onnxruntime)."
        return None

    def version(self) -> str:
        return importlib.metadata.version("onnxruntime")

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        path = subject.onnx_file(self.name)
        session = open_session(str(path), threads)
        name = session.get_inputs()[0].name
        fixed = session.get_inputs()[0].shape[0]
        if isinstance(fixed, int) and fixed != batch:
            raise RunError(Failure.NOT_SUPPORTED, f"{path}: its batch is fixed to {fixed} and cannot be {batch}.")

        def run(images: Images) -> np.ndarray:
            try:
                return np.asarray(session.run(None, {name: images})[0])
            except Exception as error:  # its exceptions share no public base class
                raise RunError(Failure.CRASHED, f"{path}: ONNX Runtime: {first_line(error)}.") from error

        return run


def open_session(path: str, threads: int, *, profile_prefix: str | None = None, optimize: bool = True):
    """An ONNX Runtime session with exactly `threads` threads; without `optimize` operators run as they stand.

    raises    RunError
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    # Threads spin between the layers of a run, as they do by default, but stop when it ends: a session that
    # goes on spinning would take the cores from the candidate that is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        raise RunError(Failure.NOT_SUPPORTED, f"{path}: ONNX Runtime: {first_line(error)}.") from error
