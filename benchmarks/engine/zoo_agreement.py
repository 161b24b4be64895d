"""Do all networks of the zoo compile, and compute what ONNX Runtime computes?

    python benchmarks/engine/zoo_agreement.py --models "resnet*,vit_*"

Every network is built with random weights, its batch norms are settled, it is exported, made sparse, compiled, and run
with batches of 1 and 3. Each runs in a process of its own, which ends with a time limit, so that one network cannot
stop the others. Where logits differ by more than the tolerance, ONNX Runtime is also compared with itself: without its
optimisations, and with inputs that were rounded otherwise. What such networks do not fix, no runtime has to meet.

Results are kept in runs/engine/zoo_agreement.json; networks that are there are not run again (--again
does). The table goes to benchmarks/results/engine_zoo.md and .json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.files import write_json, write_text
from secateur.measure import provenance, provenance_line

HERE = Path(__file__).resolve().parent
BATCHES = (1, 3)
# Of the largest logit (ENGINE.md 5).
TOLERANCE = 1e-4
# How much further than ONNX Runtime from itself.
OF_SPREAD = 2.0
VARIANTS = (("dense", 0.0), ("unstructured", 0.9), ("1x4", 0.8))


def compared(name: str, threads: int) -> dict[str, Any]:
    """What happened to one network."""
    import numpy as np
    import onnx
    from planted import plant, realistic_onnx

    from secateur.engine.session import compile_onnx
    from secateur.errors import SecateurError
    from secateur.measure.onnxruntime_runtime import open_session

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        try:
            realistic_onnx(name, file)
        except Exception as error:  # torchvision, timm and torch raise whatever they like
            return {"status": "no export", "reason": f"{type(error).__name__}: {error}"[:300]}
        proto = onnx.load(file)
        size = [side.dim_value for side in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
        outputs: dict[str, Any] = {"status": "agrees", "input": size, "file MB": file.stat().st_size / 1e6}
        for pattern, sparsity in VARIANTS:
            model = proto if not sparsity else plant(proto, pattern, sparsity, operators=("Conv", "Gemm", "MatMul"))
            onnx.save(model, file)
            peer = open_session(str(file), threads)
            started = time.perf_counter()
            try:
                session = compile_onnx(file, threads=threads)
            except SecateurError as error:
                return outputs | {"status": "does not compile", "reason": f"{pattern}: {error}"[:300]}
            outputs[f"{pattern} compile s"] = time.perf_counter() - started
            worst = spread = 0.0
            for batch in BATCHES:
                images = np.random.default_rng(batch).standard_normal((batch, *size)).astype(np.float32)
                wanted = np.asarray(peer.run(None, {peer.get_inputs()[0].name: images})[0])
                found = next(iter(session.run(images).values()))
                if not np.isfinite(wanted).all() or np.abs(wanted).max() < 1e-12:
                    return outputs | {"status": "activations vanish or explode", "reason": pattern}
                error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
                worst = max(worst, error)
                if error > TOLERANCE:
                    spread = max(spread, own_spread(file, images, wanted))
            outputs[f"{pattern} error"] = worst
            report = session.report()
            outputs["in ONNX Runtime"] = dict(Counter(op for op, _ in report.refused.values()))
            if spread:
                outputs[f"{pattern} spread"] = spread
            if not worst <= TOLERANCE and outputs["status"] != "differs":
                outputs["status"] = "sensitive" if worst <= OF_SPREAD * spread else "differs"
                outputs["reason"] = f"{pattern}: {worst:.1e} of the largest logit"
        return outputs


def own_spread(file: Path, images: Any, wanted: Any) -> float:
    """How far ONNX Runtime is from itself: not optimised, and with inputs that differ in the last bit."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    plain = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    signs = np.random.default_rng(0).choice([-1, 1], images.shape)
    nearby = np.nextafter(images, images + signs.astype(np.float32))
    first, second = (plain.run(None, {plain.get_inputs()[0].name: each})[0] for each in (images, nearby))
    return float(max(np.abs(first - wanted).max(), np.abs(second - first).max()) / np.abs(wanted).max())


def in_a_process(name: str, threads: int, seconds: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--only", name, "--threads", str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"status": "no result", "reason": f"not done in {seconds} s"}
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"status": "CRASHED" if done.returncode < 0 else "no result", "reason": f"{done.returncode}: {last}"}


def table(found: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    counts = Counter(result["status"] for result in found.values())
    lines = [
        "# Networks of the zoo in the engine and in ONNX Runtime",
        "",
        provenance_line(about),
        "",
        f"Random weights; dense, 90 % unstructured and 80 % in 1x4 blocks; batches of 1 and 3. A network agrees where "
        f"no logit differs by more than {TOLERANCE:g} of the largest one. It is sensitive where ONNX Runtime differs",
        "from itself as much (in brackets): not optimised, or with inputs that differ in the last bit.",
        "",
        *(f"* {count} {status}" for status, count in counts.most_common()),
        "",
        "| network | | largest error: dense | unstructured | 1x4 | nodes in ONNX Runtime |",
        "|---|---|--:|--:|--:|---|",
    ]
    for name, result in sorted(found.items()):
        if result["status"] == "no export":
            continue
        errors = [_error(result, pattern) for pattern, _ in VARIANTS]
        elsewhere = ", ".join(f"{count} {op}" for op, count in result.get("in ONNX Runtime", {}).items())
        status = result["status"] + (f": {result['reason']}" if "reason" in result else "")
        lines.append(f"| {name} | {status} | " + " | ".join(errors) + f" | {elsewhere} |")
    return "\n".join(lines) + "\n"


def _error(result: Mapping[str, Any], pattern: str) -> str:
    if f"{pattern} error" not in result:
        return ""
    spread = result.get(f"{pattern} spread")
    return f"{result[f'{pattern} error']:.1e}" + (f" ({spread:.1e})" if spread else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="*", help="globs, comma-separated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=600, help="time limit of one network")
    parser.add_argument("--again", action="store_true", help="run networks again that have a result")
    parser.add_argument("--runs", type=Path, default=Path("runs/engine"))
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(compared(options.only, options.threads)))
        return 0

    import secateur

    kept = options.runs / "zoo_agreement.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    names = dict.fromkeys(name for glob in options.models.split(",") for name in secateur.models(glob.strip()))
    for index, name in enumerate(names, 1):
        if name not in found or options.again:
            found[name] = in_a_process(name, options.threads, options.seconds)
            write_json(kept, found)
            result = found[name]
            print(f"{index}/{len(names)} {name}: {result['status']} {result.get('reason', '')}", flush=True)
    about = provenance("secateur", "onnxruntime", "torch", "torchvision", "timm", "onnx")
    write_json(options.results / "engine_zoo.json", {"about": about, "models": found})
    write_text(options.results / "engine_zoo.md", table(found, about))
    bad = [name for name in names if found[name]["status"] not in ("agrees", "sensitive", "no export")]
    print(f"{len(names) - len(bad)} of {len(names)} are as they should be; others: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
