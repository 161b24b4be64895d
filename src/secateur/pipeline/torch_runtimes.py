"""torch and torch.compile as runtimes of the benchmark: the network is rebuilt from the artifact's weights.

They live here because `measure` never imports torch; importing this file registers them.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator

import numpy as np
import torch
import torch._dynamo
from torch import nn

from secateur.errors import SecateurError
from secateur.export import WEIGHTS_FILE
from secateur.measure import Failure, RunError, Runner, Subject, runtimes
from secateur.measure.runtime import Images
from secateur.pipeline.network import load_artifact_network

IGNORES = "no: its convolutions multiply every weight, zero or not."
VARIANTS = 1000


class _TorchRunner:
    """Calls a network on exactly `threads` threads; other runtimes in the process keep their own number."""

    def __init__(self, network: nn.Module, threads: int) -> None:
        self._network, self._threads = network, threads

    def __call__(self, images: Images) -> np.ndarray:
        with _threads(self._threads), torch.inference_mode():
            return self._network(torch.from_numpy(images)).numpy()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def _load(subject: Subject, runtime: str) -> nn.Module:
    if subject.artifact is None:
        raise RunError(Failure.NOT_SUPPORTED, f"{subject.name}: {runtime} needs a run folder, not an ONNX file.")
    try:
        return load_artifact_network(subject.artifact / WEIGHTS_FILE)
    except SecateurError as error:
        raise RunError(Failure.NOT_SUPPORTED, str(error)) from error


@runtimes.register("torch")
class Torch:
    name = "torch"
    reads = "artifact"
    uses_zeros = IGNORES

    def available(self) -> str | None:
        return None

    def version(self) -> str:
        return torch.__version__

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        return _TorchRunner(_load(subject, self.name), threads)


@runtimes.register("torch.compile")
class TorchCompile:
    name = "torch.compile"
    reads = "artifact"
    uses_zeros = IGNORES

    def available(self) -> str | None:
        if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
            return "torch.compile needs a C++ compiler (g++ or clang++)."
        return None

    def version(self) -> str:
        return torch.__version__

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        # Every subject and thread count is one more variant of the same forward method; beyond this limit torch would
        # run the network uncompiled. With fullgraph a network that cannot be compiled whole is an error, not a
        # slower measurement under the wrong name.
        torch._dynamo.config.recompile_limit = VARIANTS
        torch._dynamo.config.accumulated_recompile_limit = VARIANTS
        compiled = torch.compile(_load(subject, self.name), fullgraph=True, dynamic=False)
        return _TorchRunner(compiled, threads)  # type: ignore[arg-type]
