"""The processes that speed.py starts: one measures times, one compilation, one nothing but what was asked.

    python speed_case.py times   DENSE SPARSE --threads 1 --batch 1 --seconds 20
    python speed_case.py compile SPARSE --threads 1 --batch 1

Times. All engines in one process, on the same input, in rounds whose order changes. A timed run follows an untimed one
of the same engine, so that threads and caches are its own, whatever the engine before left spinning. Rounds in which
the system took a core away from a timed run (involuntary context switches) do not count, unless that leaves too few.
With --clock cpu the time that the process spent computing is taken instead of that of the wall, for one thread on a
machine that others use too.

One JSON object is printed.
"""

import argparse
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 1000
LEAST_ROUNDS = 10
WARM_UP = 3
# Of the largest logit (ENGINE.md 5).
TOLERANCE = 1e-4


def pin(threads: int) -> list[int]:
    """Keep this process on as many of its processors, the last ones: the first gets most interrupts."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < threads:
        raise SystemExit(f"{threads} threads need as many processors; this process may use {len(cpus)}.")
    os.sched_setaffinity(0, cpus[-threads:])
    return cpus[-threads:]


def times(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of every engine, and their ratios round by round."""
    cpus = pin(options.threads)
    import numpy as np

    from secateur.engine.session import compile_onnx
    from secateur.measure import Subject, runtimes

    threads, batch = options.threads, options.batch
    engines: dict[str, Any] = {}
    ours = compile_onnx(options.sparse, threads=threads, batch=batch)
    size = ours.inputs[0].shape[1:]
    engines["secateur"] = lambda images: next(iter(ours.run(images).values()))
    if options.tune:
        tuned = compile_onnx(options.sparse, threads=threads, batch=batch, tune=True)
        engines["secateur, tuned"] = lambda images: next(iter(tuned.run(images).values()))
    for name in options.against:
        engines[name] = runtimes[name]().load(Subject("dense", onnx=options.dense), threads, batch)
        if options.sparse_too:
            engines[f"{name}, same zeros"] = runtimes[name]().load(
                Subject("sparse", onnx=options.sparse), threads, batch
            )

    images = np.random.default_rng(0).standard_normal((batch, *size)).astype(np.float32)
    peer = runtimes["onnxruntime"]().load(Subject("sparse", onnx=options.sparse), threads, batch)
    wanted = np.asarray(peer(images))
    del peer
    errors = {
        name: float(np.abs(run(images) - wanted).max() / np.abs(wanted).max())
        for name, run in engines.items()
        if name.startswith("secateur")
    }

    samples: dict[str, list[float]] = {name: [] for name in engines}
    disturbed: list[bool] = []
    order, shuffle = list(engines), random.Random(0)
    clock = time.process_time_ns if options.clock == "cpu" else time.perf_counter_ns
    for name in order * WARM_UP:
        engines[name](images)
    started = time.monotonic()
    while len(disturbed) < ROUNDS:
        if len(disturbed) >= LEAST_ROUNDS and time.monotonic() - started > options.seconds:
            break
        shuffle.shuffle(order)
        lost = False
        for name in order:
            run = engines[name]
            run(images)
            switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            start = clock()
            run(images)
            samples[name].append((clock() - start) / 1e6)
            lost |= resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > switches
        disturbed.append(lost)
    quiet = [index for index, lost in enumerate(disturbed) if not lost]
    counted = quiet if len(quiet) >= LEAST_ROUNDS else list(range(len(disturbed)))
    table = {name: np.array(values)[counted] for name, values in samples.items()}
    return {
        "cpus": cpus,
        "input": list(images.shape),
        "rounds": len(disturbed),
        "counted": len(counted),
        "disturbed": sum(disturbed),
        "load": os.getloadavg()[0],
        "errors": errors,
        "agrees": max(errors.values()) <= options.tolerance,
        "ms": {name: _figures(values) for name, values in table.items()},
        "ratios": _ratios(table, options.against),
        "layers": _layers(ours),
        "delegated": ours.report().delegated,
        "weights": _weights(ours),
    }


def _figures(values: Any) -> dict[str, float]:
    import numpy as np

    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "low": float(low), "high": float(high), "min": float(values.min())}


def _ratios(table: Any, against: list[str]) -> dict[str, Any]:
    """Time of the faster dense engine / time here, round by round: median and quartiles."""
    import numpy as np

    faster = min(against, key=lambda name: float(np.median(table[name])))
    ratios: dict[str, Any] = {"against": faster}
    for name in table:
        if name not in against:
            ratios[name] = _figures(table[faster] / table[name])
    return ratios


def _layers(session: Any) -> dict[str, int]:
    """How many layers are computed in which way."""
    counts: dict[str, int] = {}
    for layer in session.report().layers:
        kind = f"{layer.choice.format} {layer.choice.primitive}" if layer.choice else layer.operator
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _weights(session: Any) -> dict[str, int]:
    """Bytes of the weights of pruned layers here, and of the same weights dense; and of all constants."""
    import numpy as np

    report = session.report()
    pruned = [layer for layer in report.layers if layer.density < 1]
    return {
        "pruned": sum(layer.weight_bytes for layer in pruned),
        "pruned dense": sum(4 * int(np.prod(layer.shape)) for layer in pruned),
        "all": sum(layer.weight_bytes for layer in report.layers),
        "all dense": sum(4 * int(np.prod(layer.shape)) for layer in report.layers),
        "constants": report.memory.constants,
        "arena": report.memory.arena,
    }


def compilation(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to import, to compile, and of the first run."""
    pin(options.threads)
    start = time.perf_counter()
    from secateur.engine.session import compile_onnx

    imported = time.perf_counter()
    session = compile_onnx(options.sparse, threads=options.threads, batch=options.batch, tune=options.tune)
    compiled = time.perf_counter()
    session.run(session.random_feeds())
    ran = time.perf_counter()
    return {"import s": imported - start, "compile s": compiled - imported, "first run s": ran - compiled}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for name in ("times", "compile"):
        command = commands.add_parser(name)
        if name == "times":
            command.add_argument("dense", type=Path)
            command.add_argument("--seconds", type=float, default=20.0)
            command.add_argument("--against", nargs="+", default=["onnxruntime", "openvino"])
            command.add_argument("--sparse-too", action="store_true")
            command.add_argument("--clock", choices=("wall", "cpu"), default="wall")
            command.add_argument("--tolerance", type=float, default=TOLERANCE, help="of the largest output")
        command.add_argument("sparse", type=Path)
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--batch", type=int, default=1)
        command.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    print(json.dumps(times(options) if options.what == "times" else compilation(options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
