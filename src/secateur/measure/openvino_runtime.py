"""OpenVINO on the CPU."""

import importlib.metadata
import importlib.util

import numpy as np

from secateur.measure.failure import Failure, RunError, first_line
from secateur.measure.runtime import Images, Runner, Subject, runtimes
from secateur.measure.signal_stack import kept_signal_stack


@runtimes.register("openvino")
class OpenVino:
    name = "openvino"
    uses_zeros = "no: for float32 on a CPU it multiplies every weight, zero or not."

    def available(self) -> str | None:
        if importlib.util.find_spec("openvino") is None:
            return "openvino is not installed (pip install openvino)."
        return None

    def version(self) -> str:
        return importlib.metadata.version("openvino")

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        import openvino

        path = subject.onnx_file(self.name)
        try:
            with kept_signal_stack():
                core = openvino.Core()
                model = core.read_model(str(path))
                shape = model.inputs[0].partial_shape
                shape[0] = batch
                # The batch is known, so the plug-in may choose its kernels for it.
                model.reshape({model.inputs[0]: shape})
                compiled = core.compile_model(model, "CPU", _options(threads))
                request = compiled.create_infer_request()
        except RuntimeError as error:
            raise RunError(Failure.NOT_SUPPORTED, f"{path}: OpenVINO: {first_line(error)}.") from error

        def run(images: Images) -> np.ndarray:
            try:
                # The result is copied: the request reuses its output buffer for the next call.
                return np.array(request.infer([images], share_inputs=True, share_outputs=True)[0])
            except (RuntimeError, ValueError, TypeError) as error:
                raise RunError(Failure.CRASHED, f"{path}: OpenVINO: {first_line(error)}.") from error

        return run


def _options(threads: int) -> dict[str, str | int | bool]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Without this it may silently compute in bfloat16 where the CPU can.
        "INFERENCE_PRECISION_HINT": "f32",
        # On, it would change the floating-point mode of the thread that calls, for good.
        "CPU_DENORMALS_OPTIMIZATION": False,
        # Two compiled networks pinned to the same cores would be timed under different conditions than one
        # alone.
        "ENABLE_CPU_PINNING": False,
    }
