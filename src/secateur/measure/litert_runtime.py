"""LiteRT, the runtime of TensorFlow Lite files, on the CPU."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from secateur.measure.failure import Failure, RunError, first_line
from secateur.measure.runtime import Images, Runner, Subject, runtimes

# Bytes 4 to 8 of every TensorFlow Lite file.
IDENTIFIER = b"TFL3"
PACKAGE = "ai-edge-litert"


@runtimes.register("litert")
class LiteRt:
    name = "litert"
    reads = "tflite"
    uses_zeros = "no: it multiplies every weight of a file that stores them densely, zero or not."

    def available(self) -> str | None:
        if importlib.util.find_spec("ai_edge_litert") is None:
            return f"{PACKAGE} is not installed (pip install {PACKAGE})."
        return None

    def version(self) -> str:
        return importlib.metadata.version(PACKAGE)

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        path = subject.tflite_file(self.name)
        interpreter = open_interpreter(path, threads)
        place = interpreter.get_input_details()[0]["index"]
        shape = [int(side) for side in interpreter.get_input_details()[0]["shape"]]
        try:
            if shape[0] != batch:
                interpreter.resize_tensor_input(place, [batch, *shape[1:]], strict=False)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise RunError(
                Failure.NOT_SUPPORTED, f"{path}: cannot take batches of {batch}: {first_line(error)}."
            ) from error
        wanted, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

        def run(images: Images) -> np.ndarray:
            try:
                interpreter.set_tensor(wanted["index"], _taken(images, wanted))
                interpreter.invoke()
                return _told(interpreter.get_tensor(given["index"]), given)
            except (RuntimeError, ValueError) as error:
                raise RunError(Failure.CRASHED, f"{path}: LiteRT: {first_line(error)}.") from error

        return run


def open_interpreter(path: Path, threads: int) -> Any:
    """An interpreter with exactly `threads` threads, whose tensors are not allocated yet. raises RunError."""
    from ai_edge_litert.interpreter import Interpreter

    with path.open("rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise RunError(Failure.NOT_SUPPORTED, f"{path}: is no TensorFlow Lite file.")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (RuntimeError, ValueError) as error:
        raise RunError(Failure.NOT_SUPPORTED, f"{path}: LiteRT: {first_line(error)}.") from error
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4:
        raise RunError(Failure.NOT_SUPPORTED, f"{path}: has not one batch of images as input and one output.")
    return interpreter


def image_shape(path: Path) -> tuple[int, int, int]:
    """(channels, height, width) of the images that a file takes; its own layout may be another one. raises RunError."""
    _, first, second, third = (int(side) for side in open_interpreter(path, 1).get_input_details()[0]["shape"])
    return (third, first, second) if first > third else (first, second, third)


def _taken(images: Images, wanted: dict[str, Any]) -> np.ndarray:
    """Images (batch, channels, height, width) in the layout and the numbers of the file."""
    shape = tuple(int(side) for side in wanted["shape"])
    batch, channels, height, width = images.shape
    if shape == (batch, height, width, channels) != images.shape:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    dtype = np.dtype(wanted["dtype"])
    if dtype == np.float32:
        return images
    step, zero = wanted["quantization"]
    numbers = np.iinfo(dtype)
    return np.clip(np.rint(images / step) + zero, numbers.min, numbers.max).astype(dtype)


def _told(outputs: np.ndarray, given: dict[str, Any]) -> np.ndarray:
    """What the numbers of the file stand for, in float32; never memory that the next call writes to."""
    if outputs.dtype == np.float32:
        return np.array(outputs)
    step, zero = given["quantization"]
    return ((outputs.astype(np.int32) - zero) * np.float32(step)).astype(np.float32)
