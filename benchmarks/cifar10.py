"""CIFAR-10: what every pattern costs in accuracy and gives in size and speed, from pretrained weights.

    python benchmarks/cifar10.py goals    --data imagefolder:DIR --weights DIR
    python benchmarks/cifar10.py patterns --data imagefolder:DIR --weights DIR --seeds 0,1,2 --rows "unstructured*,1x4*"

goals       ten epochs, the rows that the project has set itself a goal for
patterns    ResNet-20, five epochs, every pattern at 50 and 80 %
channels    half the MACs taken out as channels, ten epochs

DIR holds the weights as NETWORK.safetensors; cifar10_mobilenet_v2.py makes those of mobilenet_v2. Every row is one run
of `secateur compress` with the recipe of examples/cifar10_resnet20.yaml, its pattern exchanged; the runs are kept in
runs/cifar10/ and resume when they are interrupted. The table goes to benchmarks/results/cifar10_EXPERIMENT.md and
.json, with CPU, versions and date.
"""

import argparse
import fnmatch
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateur import api
from secateur.files import read_json, write_json, write_text
from secateur.measure import provenance, provenance_line
from secateur.pipeline import RunRecord, build_images
from secateur.recipe import Recipe, build_recipe, load_recipe

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parent / "examples" / "cifar10_resnet20.yaml"
RUNTIMES = ("secateur", "onnxruntime")


@dataclass(frozen=True)
class Row:
    """One line of a table: a network, and what the sparsify stage of the recipe is exchanged for.

    start            the zeros are made after training, from 1,024 images and in closed form; then the rest is trained
    learning_rate    instead of the recipe's
    """

    network: str
    epochs: int
    change: dict[str, Any] = field(default_factory=dict)
    goal: float | None = None
    start: bool = False
    learning_rate: float | None = None


def pattern(spec: str, sparsity: float, **more: Any) -> dict[str, Any]:
    return {"pattern": spec, "sparsity": sparsity, **more}


def channels(target: float) -> dict[str, Any]:
    # Runtimes compute channels in blocks: what stays is a multiple of eight.
    return {"stage": "remove_channels", "target": target, "base": "macs", "scope": "global", "round_to": 8}


def branches(target: float) -> dict[str, Any]:
    return {"stage": "remove_branches", "target": target}


def _patterns() -> dict[str, Row]:
    rows = {"dense": Row("resnet20_cifar10", 5, pattern("unstructured", 0.0, schedule={"kind": "one_shot"}))}
    for percent in (50, 80):
        level = percent / 100
        rows[f"unstructured-{percent}"] = Row("resnet20_cifar10", 5, pattern("unstructured", level))
        if percent == 50:
            for name, permute in (("2:4", False), ("2:4 permuted", True)):
                change = {"pattern": "2:4", "allocation": "uniform", "permute": permute}
                rows[f"{name}-{percent}"] = Row("resnet20_cifar10", 5, change)
        rows[f"1x4-fine-{percent}"] = Row("resnet20_cifar10", 5, pattern("1x4-fine", level))
        for n in (2, 4, 8, 16):
            rows[f"1x{n}-{percent}"] = Row("resnet20_cifar10", 5, pattern(f"1x{n}", level))
            rows[f"1x{n} rearranged-{percent}"] = Row("resnet20_cifar10", 5, pattern(f"1x{n}", level, rearrange=True))
        rows[f"filter-{percent}"] = Row("resnet20_cifar10", 5, pattern("filter", level, allocation="uniform"))
        rows[f"channels-{percent}"] = Row("resnet20_cifar10", 5, channels(level))
    return rows


EXPERIMENTS: dict[str, dict[str, Row]] = {
    "goals": {
        "unstructured-80": Row("resnet20_cifar10", 10, pattern("unstructured", 0.8), 90.7),
        "unstructured after training-80": Row("resnet20_cifar10", 10, pattern("unstructured", 0.8), 90.7, start=True),
        "2:4-50": Row("resnet20_cifar10", 10, {"pattern": "2:4", "allocation": "uniform"}, 91.2),
        "1x4-50": Row("resnet20_cifar10", 10, pattern("1x4", 0.5), 90.8),
        "1x4 after training-50": Row("resnet20_cifar10", 10, pattern("1x4", 0.5), 90.8, start=True),
        "1x4-fine after training-50": Row("resnet20_cifar10", 10, pattern("1x4-fine", 0.5), 90.8, start=True),
        "resnet56 unstructured after training-80": Row(
            "resnet56_cifar10", 5, pattern("unstructured", 0.8), 92.8, start=True, learning_rate=0.02
        ),
        "resnet56 1x4 after training-50": Row(
            "resnet56_cifar10", 5, pattern("1x4", 0.5), 92.6, start=True, learning_rate=0.02
        ),
        "resnet56 1x4-fine after training-50": Row(
            "resnet56_cifar10", 2, pattern("1x4-fine", 0.5), 92.6, start=True, learning_rate=0.02
        ),
    },
    "patterns": _patterns(),
    "channels": {name: Row(name, 10, channels(0.5)) for name in ("resnet20_cifar10", "resnet56_cifar10")}
    | {"shufflenetv2_x0_5_cifar10": Row("shufflenetv2_x0_5_cifar10", 10, channels(0.5), learning_rate=0.01)}
    # By the size of filters 77.8 % are left of 85.7 (at .05: 77.2), the same share of every group 60.9 after one epoch.
    | {"mobilenet_v2": Row("mobilenet_v2", 10, channels(0.5) | {"criterion": "taylor"}, learning_rate=0.02)}
    | {f"{name} branches": Row(name, 10, branches(0.5)) for name in ("resnet20_cifar10", "resnet56_cifar10")},
}


def recipe_for(row: Row, seed: int) -> Recipe:
    """The common recipe with one row's network, epochs and pattern."""
    value = load_recipe(RECIPE).model_dump(mode="json", exclude_unset=True)
    value["model"] = {"name": row.network}
    value["seed"] = seed
    rate = {} if row.learning_rate is None else {"learning_rate": row.learning_rate}
    stages = []
    for stage in value["stages"]:
        if stage["stage"] == "sparsify" and row.start:
            training = stage["training"] | {"epochs": row.epochs, "warmup_epochs": 0.2} | rate
            images = {"images": 819, "held_out": 205}
            chosen = {"patterns": [row.change["pattern"]], "sparsity": row.change["sparsity"]}
            stages.append({"stage": "posttraining"} | images | chosen)
            stages.append({"stage": "finetune", "training": training, "distillation": stage["distillation"]})
        elif stage["stage"] == "sparsify" and "stage" in row.change:
            # What is lost at once is measured before training.
            training = stage["training"] | {"epochs": row.epochs} | rate
            stages.append(row.change | {"training": {"epochs": 0}})
            stages.append({"stage": "evaluate"})
            stages.append({"stage": "finetune", "training": training, "distillation": stage["distillation"]})
        elif stage["stage"] == "sparsify":
            training = stage["training"] | {"epochs": row.epochs} | rate
            shared = {"training": training, "distillation": stage["distillation"]}
            # The ramp takes the same share of the epochs, however many there are.
            ramp = stage["schedule"] | {"end": max(2, round(0.6 * row.epochs))}
            stages.append(stage | {"schedule": ramp} | shared | row.change)
            if stages[-1].get("pattern") == "2:4":
                stages[-1].pop("sparsity")
        elif stage["stage"] == "benchmark":
            stages.append(stage | {"runtimes": list(RUNTIMES), "threads": [1], "max_seconds": 10})
        else:
            stages.append(stage)
    return build_recipe(value | {"stages": stages})


def figures(row: Row, record: RunRecord) -> dict[str, Any]:
    """The figures of one run."""
    before, *at_once, after = record.results("evaluate")
    export = record.results("export")[0]
    history = next(stage.result["history"] for stage in record.stages if stage.result.get("history"))
    counts, sizes = export["census"]["compressed"]["totals"], export["files"]
    # Dense / compressed of rounds in which both ran one after the other.
    speedups = (record.results("benchmark")[0]["speedups"] or {"rows": []})["rows"]
    paired = {row["runtime"]: row["within"]["median"] for row in speedups if row["within"]}
    times = {row["runtime"]: row["compressed_ms"] for row in speedups}
    return {
        "dense top-1": before["top1"],
        "top-1": after["top1"],
        "top-1 at once": at_once[0]["top1"] if at_once else None,
        "lowest top-1": min(epoch["top1"] for epoch in history),
        "goal": row.goal,
        "sparsity": counts["sparsity"],
        "parameter reduction": counts["parameter_reduction"],
        "compute reduction": counts["compute_reduction"],
        "file share": sizes["weights.safetensors"] / sizes["dense/weights.safetensors"],
        "milliseconds": {name: times.get(name) for name in RUNTIMES},
        "speedup": {name: paired.get(name) for name in RUNTIMES},
        "export max abs error": export["check"]["max_abs_error"],
        "minutes": record.seconds / 60,
    }


def _rates(experiment: str) -> str:
    """The learning rates of an experiment's rows in words."""
    own = {name: row.learning_rate for name, row in EXPERIMENTS[experiment].items() if row.learning_rate is not None}
    others = [f"{', '.join(name for name in own if own[name] == rate)} at {rate:g}" for rate in sorted({*own.values()})]
    (common,) = [stage for stage in load_recipe(RECIPE).stages if stage.stage == "sparsify"]
    return "; ".join([f"learning rate {common.training.learning_rate:g}", *others])


def table(experiment: str, runs: dict[str, dict[str, Any]], about: dict[str, Any]) -> str:
    """The result as Markdown; several seeds as mean and standard deviation."""
    # Where channels or branches go, what that costs at once and what training brings back.
    removed = any(figures.get("top-1 at once") is not None for figures in runs.values())
    lines = [
        f"# CIFAR-10: {experiment}",
        "",
        provenance_line(about),
        "",
        f"{about['training images']:,} training and {about['test images']:,} test images; gradual pruning with "
        "distillation from the dense network; after training: all zeros at once, in closed form from 1,024 images "
        f"without labels, then the kept weights are trained with the same distillation; {_rates(experiment)}. "
        "1xN: whole kernels; 1xN-fine: single positions. Sparsity and both reductions "
        "are over all convolution and linear weights; of channels or branches that were taken out, relative to the "
        "dense network; at once: before what is left is trained, and back is the share of that loss that training "
        "brings back (channels of mobilenet_v2 by the criterion taylor, all others by l2). Speedups are dense / "
        "compressed in one runtime, one thread, batch 1.",
        "",
        f"| row | epochs | zeros | dense top-1 |{' at once |' * removed} top-1 |{' back |' * removed} goal "
        "| parameters | MACs | weights file | Secateur | ONNX Runtime |",
        f"|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|{'--:|--:|' * removed}",
    ]
    for name, row in EXPERIMENTS[experiment].items():
        found = [figures for key, figures in runs.items() if key.rpartition(" seed ")[0] == name]
        if not found:
            continue
        first = found[0]
        top1 = [figures["top-1"] for figures in found]
        spread = f" ± {statistics.stdev(top1):.2f} ({len(top1)} seeds)" if len(top1) > 1 else ""
        speed = [
            f"{statistics.median(f['speedup'][runtime] for f in found):.2f}x" if first["speedup"][runtime] else ""
            for runtime in RUNTIMES
        ]
        lost = back = " |" * removed
        if first.get("top-1 at once") is not None:
            at_once = statistics.mean(figures["top-1 at once"] for figures in found)
            lost = f" {at_once:.2f} % |"
            back = f" {100 * (statistics.mean(top1) - at_once) / (first['dense top-1'] - at_once):.0f} % |"
        lines.append(
            f"| {name.rpartition('-')[0] or name} | {row.epochs} | {100 * first['sparsity']:.1f} % "
            f"| {first['dense top-1']:.2f} % |{lost} {statistics.mean(top1):.2f} %{spread} |{back}"
            f" {'' if row.goal is None else row.goal} | {first['parameter reduction']:.2f}x fewer "
            f"| {first['compute reduction']:.2f}x fewer | {100 * first['file share']:.1f} % of dense "
            f"| {speed[0]} | {speed[1]} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", default="cifar10", help="cifar10, or imagefolder:DIR with train/ and test/")
    parser.add_argument("--weights", required=True, type=Path, help="folder with NETWORK.safetensors")
    parser.add_argument("--rows", default="*", help="globs, comma-separated")
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--runs", type=Path, default=Path("runs/cifar10"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()

    kept = options.results / f"cifar10_{options.experiment}.json"
    runs: dict[str, Any] = read_json(kept)["runs"] if kept.is_file() else {}
    for name, row in EXPERIMENTS[options.experiment].items():
        if not any(fnmatch.fnmatchcase(name, glob) for glob in options.rows.split(",")):
            continue
        for seed in map(int, options.seeds.split(",")):
            result = api.compress(
                None,
                options.data,
                recipe_for(row, seed),
                out=options.runs / options.experiment / f"{name.replace(' ', '_').replace(':', '')}-seed{seed}",
                weights=str(options.weights / f"{row.network}.safetensors"),
                command=f"python benchmarks/cifar10.py {options.experiment} --rows '{name}' --seeds {seed}",
            )
            runs[f"{name} seed {seed}"] = figures(row, result.record)
            images = build_images(result.record.recipe.data)
            counts = {"training images": len(images.train or ()), "test images": len(images.test)}
            about = provenance("torch", "onnxruntime", "secateur", **counts)
            write_json(kept, {"about": about, "runs": runs})
            write_text(kept.with_suffix(".md"), table(options.experiment, runs, about))
            print(name, seed, json.dumps(runs[f"{name} seed {seed}"]), flush=True)


if __name__ == "__main__":
    main()
