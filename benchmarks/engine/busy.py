"""How fast are several threads on a machine that has other work too?

    python benchmarks/engine/busy.py --models resnet50 --patterns 1x4 --sparsity 0,80 --threads 2 --others 0,1,2

The other work are processes that compute and never wait, as a training on the same machine is; `--others` says how
many. Every runtime runs the network with one and with `--threads` threads, all in one process, in rounds whose order
changes; a timed run follows an untimed one. Medians go to benchmarks/results/engine_busy.md and .json, and figures of
other cases there are kept.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from speed import Case, Files

from secateur.files import read_json, write_json, write_text
from secateur.measure import Subject, provenance, provenance_line, runtimes

RUNTIMES = ("secateur", "onnxruntime", "openvino")
WARM_UP = 5
OTHERS = {0: "nothing else", 1: "one other process", 2: "two other processes"}


@contextlib.contextmanager
def other_work(processes: int) -> Iterator[None]:
    """So many processes that compute, each in one thread."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def times(file: Path, threads: int, seconds: float) -> dict[str, float]:
    """Milliseconds of a run by runtime and threads, the median of all rounds."""
    engines = {
        f"{name} {count}": runtimes[name]().load(Subject("network", onnx=file), count, 1)
        for name in RUNTIMES
        for count in (1, threads)
    }
    images = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    samples: dict[str, list[float]] = {name: [] for name in engines}
    order, shuffle = list(engines), random.Random(0)
    for name in order * WARM_UP:
        engines[name](images)
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        shuffle.shuffle(order)
        for name in order:
            engines[name](images)
            before = time.perf_counter()
            engines[name](images)
            samples[name].append(1e3 * (time.perf_counter() - before))
    return {name: float(np.median(found)) for name, found in samples.items()}


def table(found: dict[str, dict[str, Any]], about: dict[str, Any], threads: int) -> str:
    """Milliseconds as Markdown."""
    columns = [(name, count) for name in ("Secateur", "ONNX Runtime", "OpenVINO") for count in (1, threads)]
    lines = [
        "# Threads on a busy machine",
        "",
        provenance_line(about),
        "",
        "Milliseconds of one image, the median of rounds in which all runtimes take turns in one process. Other "
        "processes compute without a pause, one thread each.",
        "",
        "| network | beside it | " + " | ".join(f"{name}, {count}" for name, count in columns) + " |",
        "|---|---|" + "--:|" * len(columns),
    ]
    for row in found.values():
        cells = [f"{value:.1f}" for value in row["milliseconds"].values()]
        lines.append(f"| {row['network']} | {OTHERS.get(row['others'], str(row['others']))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50")
    parser.add_argument("--patterns", default="1x4")
    parser.add_argument("--sparsity", default="0,80", help="percent, comma-separated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--others", default="0,1,2", help="processes beside it, comma-separated")
    parser.add_argument("--seconds", type=float, default=40.0, help="for one row")
    parser.add_argument("--runs", type=Path, default=Path("runs/engine"))
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parent.parent / "results")
    options = parser.parse_args()
    files, result = Files(options.runs / "onnx"), options.results / "engine_busy.json"
    found: dict[str, dict[str, Any]] = read_json(result)["rows"] if result.is_file() else {}
    about = provenance("secateur", "onnxruntime", "openvino", threads=options.threads)
    for model in options.models.split(","):
        for percent in map(int, options.sparsity.split(",")):
            case = Case(model, options.patterns if percent else "dense", percent, options.threads, 1)
            file = files.sparse(case)
            for others in map(int, options.others.split(",")):
                with other_work(others):
                    milliseconds = times(file, options.threads, options.seconds)
                row = {"network": case.network, "others": others, "milliseconds": milliseconds}
                print(row, flush=True)
                found[f"{case.network}, {others} others"] = row
                write_json(result, {"about": about, "rows": found})
                write_text(result.with_suffix(".md"), table(found, about, options.threads))


if __name__ == "__main__":
    main()
