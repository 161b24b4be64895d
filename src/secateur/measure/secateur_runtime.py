"""Secateur's own engine. Its compiler is imported when it is first used."""

import importlib.metadata
from typing import TYPE_CHECKING

import numpy as np

from secateur.errors import EngineError, ModelError
from secateur.measure.failure import Failure, RunError
from secateur.measure.runtime import Images, Runner, Subject, runtimes

if TYPE_CHECKING:
    from secateur.engine.session import Session


@runtimes.register("secateur")
class Secateur:
    name = "secateur"
    uses_zeros = "yes: layers whose zeros pay are computed from their nonzero weights only."
    precision = "float32"

    def available(self) -> str | None:
        from secateur.engine import session  # here, so that what it takes is not counted as a network's memory

        try:
            session.check_precision(self.precision, session.host_target())
        except EngineError as error:
            return str(error)
        return None

    def version(self) -> str:
        return importlib.metadata.version("secateur")

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        path = subject.onnx_file(self.name)
        session = open_engine(str(path), threads, batch, self.precision)
        name, output = session.inputs[0].name, session.outputs[0].name
        fixed = session.inputs[0].shape[0] if session.inputs[0].shape else None
        if fixed not in (None, batch):
            raise RunError(Failure.NOT_SUPPORTED, f"{path}: its batch is fixed to {fixed} and cannot be {batch}.")

        def run(images: Images) -> np.ndarray:
            try:
                return session.run({name: images})[output]
            except (EngineError, ModelError) as error:
                raise RunError(Failure.CRASHED, f"{path}: {error}") from error

        return run


@runtimes.register("secateur-bf16")
class SecateurBf16(Secateur):
    name = "secateur-bf16"
    uses_zeros = "yes: as secateur does, with the zeros of pairs of input channels; it multiplies bf16 numbers."
    precision = "bf16"
    on_request = True
    unavailable = Failure.NOT_SUPPORTED


def open_engine(path: str, threads: int, batch: int, precision: str = "float32") -> "Session":
    """A compiled network. raises RunError."""
    from secateur.engine.session import compile_onnx

    try:
        return compile_onnx(path, threads=threads, batch=batch, precision=precision)
    except (EngineError, ModelError) as error:
        raise RunError(Failure.NOT_SUPPORTED, str(error)) from error
