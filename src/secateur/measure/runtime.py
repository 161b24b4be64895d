"""What a runtime is, and the registry of those that are known.

    @runtimes.register("onnxruntime")
    class OnnxRuntime: ...

    run = runtimes["onnxruntime"]().load(Subject("dense", onnx=Path("dense.onnx")), threads=1, batch=8)
    logits = run(images)                    # float32 (8, channels, height, width) -> (8, classes)

Adding a runtime is one file with one decorated class; rooms above this one may register theirs (torch does).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from secateur.measure.failure import Failure, RunError
from secateur.registry import Registry

Images = NDArray[np.float32]
Runner = Callable[[Images], np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A network to be measured, by the files that hold it; a runtime takes the one it can read.

    onnx        an ONNX file
    artifact    the run folder whose weights a torch runtime can rebuild the network from
    tflite      a TensorFlow Lite file
    """

    name: str
    onnx: Path | None = None
    artifact: Path | None = None
    tflite: Path | None = None

    def onnx_file(self, runtime: str) -> Path:
        """The ONNX file. raises RunError when the subject has none."""
        return self._file(self.onnx, f"{runtime} needs an ONNX file")

    def tflite_file(self, runtime: str) -> Path:
        """The TensorFlow Lite file. raises RunError when the subject has none."""
        return self._file(self.tflite, f"{runtime} needs a TensorFlow Lite file (.tflite)")

    def _file(self, path: Path | None, wanted: str) -> Path:
        if path is None:
            raise RunError(Failure.NOT_SUPPORTED, f"{self.name}: {wanted}.")
        if not path.is_file():
            raise RunError(Failure.NOT_SUPPORTED, f"{path}: no such file.")
        return path


class Runtime(Protocol):
    """Something that runs networks.

    name         the word used on the command line and in recipes
    uses_zeros   a plain sentence that starts with yes, partly or no: does it skip the work of zero weights

    Further attributes, where they differ: `reads`, the field of a Subject that it reads (onnx); `on_request`, whether
    it runs only where it is named (False); `unavailable`, the category of what `available` says (Failure.MISSING).
    """

    name: str
    uses_zeros: str

    def available(self) -> str | None:
        """None when it can be used here, otherwise the reason and what to install."""
        ...

    def version(self) -> str: ...

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        """A function from images (exactly `batch` of them) to logits, on exactly `threads` threads.

        raises    RunError  when this runtime cannot read or run the network
        """
        ...


runtimes: Registry[type[Runtime]] = Registry("runtime")


def ignores_zeros(runtime: Runtime) -> bool:
    """Does this runtime multiply zero weights like any other."""
    return runtime.uses_zeros.lower().startswith("no")


def can_read(runtime: Runtime, subject: Subject) -> bool:
    """Does the subject come in a form that this runtime reads."""
    return getattr(subject, getattr(runtime, "reads", "onnx")) is not None


def installed_runtimes(reads: str | None = None) -> tuple[str, ...]:
    """Names of the registered runtimes that can be used here, without those that run only where they are named.

    reads    only those that read this field of a Subject
    """
    usual = [name for name in runtimes if not getattr(runtimes[name], "on_request", False)]
    if reads is not None:
        usual = [name for name in usual if getattr(runtimes[name], "reads", "onnx") == reads]
    return tuple(name for name in usual if runtimes[name]().available() is None)
