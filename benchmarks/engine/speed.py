"""How much faster pruned networks run here: our engine on the pruned file, the others on the dense one, in turns.

    python benchmarks/engine/speed.py --models resnet50,mobilenet_v2 --patterns 1x4,unstructured --sparsity 0,50,80,90
    python benchmarks/engine/speed.py                 # everything the goals speak of; go on where it was stopped

Random weights, batch norms with the statistics of their own input; first layer, classifier and depthwise layers dense,
the others equally sparse at random places. `ratio` is the median over rounds of

    time of the faster of ONNX Runtime and OpenVINO, dense float32, in the same round / our time

One thread runs on one core, two on two. Cases are kept one by one, so a stopped run goes on; --again measures anew.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from planted import plant, pruned_share, realistic_onnx

from secateur.engine.session import compile_onnx
from secateur.files import write_json, write_text
from secateur.measure import Subject, machine, runtimes
from secateur.measure.clock import time_interleaved

RESULTS = Path(__file__).resolve().parent.parent / "results"
RIVALS = ("onnxruntime", "openvino")
# Goals of the first milestone: (pattern, zeros in percent) -> ratio, for ResNet-50.
GOALS = {
    **{(pattern, level): goal for pattern in ("1x4", "1x8") for level, goal in ((50, 1.8), (80, 4.2), (90, 7.0))},
    **{("unstructured", level): goal for level, goal in ((50, 1.35), (80, 2.3), (90, 3.8), (95, 6.5))},
}
MOBILE_GOALS = {
    ("mobilenetv1_100", "1x4", 80): 2.2,
    ("mobilenet_v2", "1x4", 80): 1.6,
    ("mobilenetv1_100", "unstructured", 90): 2.0,
    ("mobilenet_v2", "unstructured", 90): 1.5,
}


def main() -> None:
    """Measure the cases that are missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50,resnet18,vgg16,mobilenetv1_100,mobilenet_v2")
    parser.add_argument("--patterns", default="1x4,1x8,unstructured")
    parser.add_argument("--sparsity", default="0,50,80,90,95", help="percent")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", default="1")
    parser.add_argument("--seconds", type=float, default=20.0, help="time of one case")
    parser.add_argument("--rounds", type=int, default=60, help="rounds of one case at most")
    parser.add_argument("--tune", action="store_true", help="let the tuner time candidates")
    parser.add_argument("--again", action="store_true", help="measure cases that are known too")
    parser.add_argument("--files", type=Path, default=Path(tempfile.gettempdir()) / "secateur-speed")
    options = parser.parse_args()
    known = RESULTS / "engine_speed.json"
    record = json.loads(known.read_text()) if known.is_file() else {"cases": {}}
    record["machine"] = asdict(machine())
    for name, pattern, level, threads, batch in _cases(options):
        key = f"{name} {pattern} {level} threads {threads} batch {batch}" + (" tuned" if options.tune else "")
        if key in record["cases"] and not options.again:
            continue
        print(key, end=": ", flush=True)
        record["cases"][key] = measure(options, name, pattern, level, threads, batch)
        print(f"{record['cases'][key]['ratio']:.2f}x", flush=True)
        write_json(known, record)
    write_text(RESULTS / "engine_speed.md", table(record))


def _cases(options: argparse.Namespace) -> list[tuple[str, str, int, int, int]]:
    levels = [int(level) for level in options.sparsity.split(",")]
    patterns = options.patterns.split(",")
    return [
        (name, pattern if level else "dense", level, int(threads), int(batch))
        for batch in options.batch.split(",")
        for threads in options.threads.split(",")
        for name in options.models.split(",")
        for pattern in patterns
        for level in levels
        if level or pattern == patterns[0]
    ]


def measure(options: argparse.Namespace, name: str, pattern: str, level: int, threads: int, batch: int) -> dict:
    """One case: milliseconds of everybody, the ratio, compile times, bytes of weights."""
    options.files.mkdir(parents=True, exist_ok=True)
    dense = options.files / f"{name}.onnx"
    if not dense.is_file():
        realistic_onnx(name, dense)
    pruned = options.files / f"{name}_{pattern}_{level}.onnx"
    if not pruned.is_file():
        model = onnx.load(dense)
        onnx.save(plant(model, pattern, level / 100) if level else model, pruned)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-threads:])
    try:
        started = time.perf_counter()
        session = compile_onnx(pruned, threads=threads, batch=batch, tune=options.tune)
        seconds = time.perf_counter() - started
        runs = {rival: runtimes[rival]().load(Subject("dense", onnx=dense), threads, batch) for rival in RIVALS}
        runs["secateur"] = lambda images: next(iter(session.run(images).values()))
        feed = np.random.default_rng(0).standard_normal(session.random_feeds(batch)[session.inputs[0].name].shape)
        timings = time_interleaved(
            runs,
            feed.astype(np.float32),
            repeats=options.rounds,
            warmup=5,
            max_seconds=options.seconds,
        )
    finally:
        os.sched_setaffinity(0, cores)
    samples = {who: np.array(timing.samples) for who, timing in timings.items()}
    ratios = np.minimum(samples["onnxruntime"], samples["openvino"]) / samples["secateur"]
    weights = sum(fact.macs and int(np.prod(fact.shape)) for fact in session.report().layers)
    return {
        "ms": {who: timing.median_ms for who, timing in timings.items()},
        "least_ms": {who: timing.min_ms for who, timing in timings.items()},
        "ratio": float(np.median(ratios)),
        "quartiles": [float(value) for value in np.quantile(ratios, [0.25, 0.75])],
        "rounds": len(ratios),
        "compile_seconds": seconds,
        "weight_share": session.report().memory.constants / (4 * weights),
        "zeros": pruned_share(onnx.load(pruned)),
        "date": datetime.now(UTC).date().isoformat(),
    }


def goal_of(name: str, pattern: str, level: int) -> float | None:
    """The goal of a case, where there is one."""
    if level == 0:
        return 0.9
    if name == "resnet50":
        return GOALS.get((pattern, level))
    return MOBILE_GOALS.get((name, pattern, level))


def table(record: dict) -> str:
    """The cases as Markdown."""
    facts = record["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items())
    lines = [
        "# Speed of the engine",
        "",
        __doc__.split("\n\n", 2)[2].strip(),
        "",
        f"CPU: {facts.get('cpu', '?')}. {packages}.",
        "",
        "| network | zeros | threads | batch | ours ms | ONNX Runtime ms | OpenVINO ms | ratio (quartiles) | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, case in record["cases"].items():
        name, pattern, level, _, threads, _, batch, *tuned = key.split()
        goal = goal_of(name, pattern, int(level)) if batch == "1" else None
        zeros = "dense" if level == "0" else f"{pattern} {level} %"
        ms = case["ms"]
        low, high = case["quartiles"]
        lines.append(
            f"| {name} | {zeros}{' tuned' if tuned else ''} | {threads} | {batch} | {ms['secateur']:.2f} "
            f"| {ms['onnxruntime']:.2f} | {ms['openvino']:.2f} | {case['ratio']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {goal or ''} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
