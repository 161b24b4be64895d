"""The process that peak_memory starts: loads one network in one runtime, runs it, prints its peak memory.

    peak = largest resident size while loading and running  -  resident size after the imports

    python -m secateur.measure.memory_probe RUNTIME NAME --onnx FILE --shape 3 224 224 --batch 1 --threads 1

A process that has run anything else keeps memory that its allocator did not give back; only a fresh one can
tell.
"""

import argparse
import importlib
import importlib.util
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from secateur.errors import SecateurError
from secateur.measure.failure import Failure, RunError
from secateur.measure.runtime import Subject, runtimes

RUNS = 3
# Of runtimes that are not called as the library is.
_LIBRARIES = {"litert": "ai_edge_litert.interpreter"}


def _measure(options: argparse.Namespace) -> int:
    # A runtime of a room above this one registers itself when its module is imported.
    importlib.import_module(options.module)
    runtime = runtimes[options.runtime]()
    reason = runtime.available()
    if reason is not None:
        raise RunError(Failure.MISSING, reason)
    runtime.version()
    _import_library(options.runtime)
    feed = np.random.default_rng(0).standard_normal((options.batch, *options.shape), dtype=np.float32)
    baseline = _reset_peak()
    subject = Subject(options.name, options.onnx, options.artifact, options.tflite)
    run = runtime.load(subject, options.threads, options.batch)
    for _ in range(RUNS):
        run(feed)
    return max(0, _peak() - baseline)


def _import_library(runtime: str) -> None:
    """Import the runtime's own library before the baseline is taken, where it has the runtime's name."""
    name = _LIBRARIES.get(runtime, runtime.partition(".")[0])
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        importlib.import_module(name)


def _reset_peak() -> int:
    """Set the peak back to what is resident now, and return it; bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return _peak()
    return _peak()


def _peak() -> int:
    """Largest resident size since the last reset (or the start, where there is no reset); bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says and print one JSON object: {"peak": bytes} or category and message."""
    parser = argparse.ArgumentParser(prog="python -m secateur.measure.memory_probe")
    parser.add_argument("runtime")
    parser.add_argument("name")
    parser.add_argument("--module", default="secateur.measure")
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--tflite", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        answer = {"peak": _measure(options)}
    except RunError as error:
        answer = {"category": error.category.value, "message": str(error)}
    except SecateurError as error:
        answer = {"category": Failure.CRASHED.value, "message": str(error)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
