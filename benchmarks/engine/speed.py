"""How fast is the engine, against the faster of ONNX Runtime and OpenVINO with the same network dense?

    python benchmarks/engine/speed.py --models resnet50 --patterns 1x4,unstructured --sparsity 0,50,80,90 --threads 1,2

Networks have random weights (planted.py): every layer loses the same share, except the first, depthwise and grouped
convolutions, and linear layers, which stay dense. Each case is measured in a process of its own (speed_case.py), with
all engines in it, interleaved; results are kept in runs/engine/speed.json case by case, and cases that are there are
not measured again (--again does). The tables go to benchmarks/results/engine_speed.md and .json.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from planted import plant, realistic_onnx

from secateur.files import write_json, write_text
from secateur.measure import RunError, Subject, peak_memory, provenance, provenance_line

HERE = Path(__file__).resolve().parent
# What issue and docs call them -> the zoo's name
NAMES = {"mobilenet_v1": "mobilenetv1_100"}
AGAINST = ("onnxruntime", "openvino")
# "Never slower than dense" leaves room for what two runs of one network differ by: within 10 %.
LEAST = 1 / 1.1
COLD_GOAL, CACHED_GOAL, WEIGHTS_GOAL = 5.0, 0.5, 0.25
# Of the batch-1 ratio, for larger batches
BATCH_SHARE = 0.9

BLOCKS = {50: 1.8, 80: 4.2, 90: 7.0}
GOALS: Mapping[tuple[str, str], Mapping[int, float]] = {
    ("resnet50", "1x4"): BLOCKS,
    ("resnet50", "1x8"): BLOCKS,
    ("resnet50", "unstructured"): {50: 1.35, 80: 2.3, 90: 3.8, 95: 6.5},
    ("mobilenet_v1", "1x4"): {80: 2.2},
    ("mobilenet_v1", "unstructured"): {90: 2.0},
    ("mobilenet_v2", "1x4"): {80: 1.6},
    ("mobilenet_v2", "unstructured"): {90: 1.5},
}


@dataclass(frozen=True)
class Case:
    """One network with its zeros, threads and batch size. Without zeros the pattern is "dense"."""

    model: str
    pattern: str
    percent: int
    threads: int
    batch: int

    @property
    def key(self) -> str:
        return f"{self.network} {self.threads} threads batch {self.batch}"

    @property
    def network(self) -> str:
        return f"{self.model} {self.pattern} {self.percent} %" if self.percent else f"{self.model} dense"

    def goal(self, found: Mapping[str, Mapping[str, Any]]) -> float:
        """The least ratio; that of a larger batch follows from the measured one of batch 1."""
        goal = GOALS.get((self.model, self.pattern), {}).get(self.percent, LEAST)
        single = found.get(Case(self.model, self.pattern, self.percent, self.threads, 1).key)
        if self.batch > 1 and single and "ratios" in single:
            return max(LEAST, BATCH_SHARE * single["ratios"]["secateur"]["median"])
        return goal if self.batch == 1 else max(LEAST, BATCH_SHARE * goal)


class Files:
    """ONNX files of cases, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def dense(self, model: str) -> Path:
        """The network without zeros."""
        file = self._folder / f"{model}.onnx"
        if not file.is_file():
            print(f"exporting {model}", flush=True)
            realistic_onnx(NAMES.get(model, model), file)
        return file

    def sparse(self, case: Case) -> Path:
        """The network of a case."""
        dense = self.dense(case.model)
        if not case.percent:
            return dense
        file = self._folder / f"{case.model}_{case.pattern}_{case.percent}.onnx"
        if not file.is_file():
            onnx.save(plant(onnx.load(dense), case.pattern, case.percent / 100), file)
        return file


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """All cases, each once, batch 1 first."""
    seen: set[Case] = set()
    for model in options.models.split(","):
        for batch in sorted(map(int, options.batch.split(","))):
            for threads in map(int, options.threads.split(",")):
                for percent in map(int, options.sparsity.split(",")):
                    for pattern in options.patterns.split(","):
                        case = Case(model, pattern if percent else "dense", percent, threads, batch)
                        if case not in seen:
                            seen.add(case)
                            yield case


def child(*arguments: str, cache: str | None = None) -> dict[str, Any]:
    """What speed_case.py prints; {"failed": reason} when it does not."""
    environment = dict(os.environ) | ({"SECATEUR_CACHE": cache} if cache else {})
    command = [sys.executable, str(HERE / "speed_case.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}


def measured(case: Case, files: Files, options: argparse.Namespace, *, sparse_too: bool) -> dict[str, Any]:
    """Times of one case."""
    arguments = [
        "times",
        str(files.dense(case.model)),
        str(files.sparse(case)),
        "--against",
        *options.against.split(","),
    ]
    arguments += ["--seconds", str(options.seconds), "--threads", str(case.threads), "--batch", str(case.batch)]
    arguments += ["--tune"] * options.tune + ["--sparse-too"] * sparse_too
    return child(*arguments)


def costs(case: Case, files: Files) -> dict[str, Any]:
    """Seconds to compile, cold and from the cache, and peak memory here and in ONNX Runtime."""
    file = str(files.sparse(case))
    with tempfile.TemporaryDirectory() as cache:
        Path(cache).chmod(0o700)
        cold, cached = (child("compile", file, "--threads", str(case.threads), cache=cache) for _ in range(2))
    found: dict[str, Any] = {"cold": cold, "cached": cached, "peak": {}}
    size = [side.dim_value for side in onnx.load(file).graph.input[0].type.tensor_type.shape.dim[1:]]
    for runtime in ("secateur", "onnxruntime"):
        try:
            peak = peak_memory(runtime, Subject(case.network, onnx=Path(file)), size, threads=case.threads)
        except RunError as error:
            found["peak"][runtime] = str(error)
        else:
            found["peak"][runtime] = peak
    return found


def speed_table(found: Mapping[str, Mapping[str, Any]], listed: list[Case]) -> list[str]:
    """Ratios beside their goals."""
    lines = [
        "| network | threads | batch | ms | dense ONNX Runtime | OpenVINO | ratio (quartiles) | goal | | rounds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for case in listed:
        row = found[case.key]
        if "failed" in row:
            lines.append(f"| {case.network} | {case.threads} | {case.batch} | failed: {row['failed']} | | | | | | |")
            continue
        goal = case.goal(found)
        for name in row["ms"]:
            if not name.startswith("secateur"):
                continue
            ratio = row["ratios"][name]
            peers = [f"{row['ms'][peer]['median']:.2f}" if peer in row["ms"] else "-" for peer in AGAINST]
            verdict = "yes" if ratio["median"] >= goal else "NO"
            verdict += "" if row["agrees"] else f", WRONG by {max(row['errors'].values()):.1e}"
            verdict += ", in ONNX Runtime" if row["delegated"] else ""
            lines.append(
                f"| {case.network}{name.removeprefix('secateur')} | {case.threads} | {case.batch} "
                f"| {row['ms'][name]['median']:.2f} (min {row['ms'][name]['min']:.2f}) | {peers[0]} | {peers[1]} "
                f"| **{ratio['median']:.2f}x** ({ratio['low']:.2f} to {ratio['high']:.2f}) | {goal:.2f}x | {verdict} "
                f"| {row['counted']} of {row['rounds']}{', disturbed' * (row['disturbed'] >= row['counted'])} |"
            )
    return lines


def cost_table(found: Mapping[str, Mapping[str, Any]], listed: list[Case]) -> list[str]:
    """Compilation and memory, one line per network."""
    lines = [
        f"| network | cold compile (goal < {COLD_GOAL:g} s) | cached (< {CACHED_GOAL:g} s) | weights of pruned layers "
        f"of dense bytes (1x4 80 %: at most {WEIGHTS_GOAL:.0%}) | peak memory | ONNX Runtime, same file |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for case in listed:
        row = found[case.key]
        if "costs" not in row or "weights" not in row:
            continue
        cost, weights = row["costs"], row["weights"]
        seconds = [
            f"{cost[kind]['compile s']:.2f} s" if "compile s" in cost[kind] else "-" for kind in ("cold", "cached")
        ]
        share = f"{weights['pruned'] / weights['pruned dense']:.1%}" if weights["pruned dense"] else "no zeros"
        peaks = [
            f"{peak / 2**20:.0f} MiB" if isinstance(peak, int) else "-"
            for peak in (cost["peak"][name] for name in ("secateur", "onnxruntime"))
        ]
        lines.append(f"| {case.network} | " + " | ".join((*seconds, share, *peaks)) + " |")
    return lines


def zeros_table(found: Mapping[str, Mapping[str, Any]], listed: list[Case]) -> list[str]:
    """Do dense engines gain from the same zeros?"""
    lines = ["| network | threads | engine | dense ms | with zeros ms |", "|---|--:|---|--:|--:|"]
    for case in listed:
        figures = found[case.key].get("ms", {})
        for peer in AGAINST:
            if f"{peer}, same zeros" in figures:
                dense, zeros = figures[peer]["median"], figures[f"{peer}, same zeros"]["median"]
                lines.append(f"| {case.network} | {case.threads} | {peer} | {dense:.2f} | {zeros:.2f} |")
    return lines


def report(found: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    listed = sorted(
        (Case(*row["case"]) for row in found.values()),
        key=lambda case: (case.model, case.batch, case.threads, case.pattern, case.percent),
    )
    return "\n".join(
        (
            "# Speed of the engine",
            "",
            provenance_line(about),
            "",
            "Random weights; every convolution loses the same share of its weights at random places, except the first, "
            "depthwise and grouped ones; linear layers stay dense. Ratio: time of the faster dense engine / time here, "
            "from rounds in which all engines ran in one process, in changing order; median and quartiles. One thread "
            "is pinned to one core. float32, denormals kept. Rounds in which a core was taken away do not count. These "
            "are figures of speed; networks pruned at random predict nothing.",
            "",
            *speed_table(found, listed),
            "",
            "## Compilation and memory",
            "",
            "Batch 1. Peak: of loading and running, on top of the imported runtime.",
            "",
            *cost_table(found, listed),
            "",
            "## Dense engines with the same zeros",
            "",
            *zeros_table(found, listed),
            "",
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50,resnet18,vgg16,mobilenet_v1,mobilenet_v2")
    parser.add_argument("--patterns", default="1x4,1x8,unstructured")
    parser.add_argument("--sparsity", default="0,50,80,90,95", help="percent")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, for each case")
    parser.add_argument("--against", default=",".join(AGAINST))
    parser.add_argument("--tune", action="store_true", help="also time the tuned engine")
    parser.add_argument("--no-costs", action="store_true", help="leave compilation and memory out")
    parser.add_argument("--again", action="store_true", help="measure cases again that have a result")
    parser.add_argument("--runs", type=Path, default=Path("runs/engine"))
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    options = parser.parse_args()

    files, kept = Files(options.runs / "onnx"), options.runs / "speed.json"
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    # Rows of other runs stay in the table.
    result = options.results / "engine_speed.json"
    recorded = json.loads(result.read_text(encoding="utf-8"))["cases"] if result.is_file() else {}
    about = provenance("secateur", "onnxruntime", "openvino", "llvmlite", "numpy")
    todo = list(cases(options))
    shown: set[str] = set()
    for index, case in enumerate(todo, 1):
        first = case.model not in shown and case.pattern == "unstructured" and case.percent >= 80
        shown |= {case.model} if first else set()
        if case.key in found and "failed" not in found[case.key] and not options.again:
            continue
        row = measured(case, files, options, sparse_too=first)
        row |= {"case": [case.model, case.pattern, case.percent, case.threads, case.batch]}
        row |= {"sha256": hashlib.sha256(files.sparse(case).read_bytes()).hexdigest()}
        if case.threads == 1 and case.batch == 1 and not options.no_costs:
            row["costs"] = costs(case, files)
        found[case.key] = row
        write_json(kept, found)
        recorded |= found
        write_json(result, {"about": about, "cases": recorded})
        write_text(result.with_suffix(".md"), report(recorded, about))
        said = row.get("failed") or f"{row['ratios']['secateur']['median']:.2f}x, goal {case.goal(found):.2f}x"
        print(f"{index}/{len(todo)} {case.key}: {said}", flush=True)
    missed = [
        case.key for case in todo
        if "failed" in found[case.key]
        or not found[case.key]["agrees"]
        or found[case.key]["ratios"]["secateur"]["median"] < case.goal(found)
    ]  # fmt: skip
    print(f"{len(todo) - len(missed)} of {len(todo)} cases reach their goal", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
