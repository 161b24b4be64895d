"""Peak memory of one network in one runtime, measured in a process of its own (memory_probe.py)."""

import json
import subprocess
import sys
from collections.abc import Sequence

from secateur.measure.failure import Failure, RunError
from secateur.measure.runtime import Subject, runtimes


def peak_memory(
    runtime: str,
    subject: Subject,
    input_shape: Sequence[int],
    *,
    threads: int = 1,
    batch: int = 1,
    timeout: float = 120.0,
) -> int:
    """Bytes that loading and running `subject` takes on top of the imported runtime.

    input_shape    (channels, height, width)
    raises         RunError  when the process fails or does not end within `timeout` seconds
    """
    module = runtimes[runtime].__module__
    command = [
        sys.executable,
        "-m",
        "secateur.measure.memory_probe",
        runtime,
        subject.name,
        "--module",
        module,
    ]
    command += ["--batch", str(batch), "--threads", str(threads), "--shape", *map(str, input_shape)]
    command += ["--onnx", str(subject.onnx)] if subject.onnx else []
    command += ["--artifact", str(subject.artifact)] if subject.artifact else []
    command += ["--tflite", str(subject.tflite)] if subject.tflite else []
    what = f"{subject.name}: the memory measurement in {runtime}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunError(Failure.TIME_LIMIT, f"{what} did not end within {timeout:.0f} s.") from error
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        if "peak" in answer:
            return int(answer["peak"])
        raise RunError(Failure(answer["category"]), answer["message"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RunError(Failure.CRASHED, f"{what} crashed: {reason}.") from error
