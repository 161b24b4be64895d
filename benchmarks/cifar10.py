"""CIFAR-10, ResNet-20: ten epochs of gradual pruning with distillation, from pretrained weights.

    python benchmarks/cifar10.py --data imagefolder:DIR --weights resnet20_cifar10.safetensors

Every row is one run of the recipe examples/cifar10_resnet20.yaml with its own pattern and sparsity; the runs are kept
in runs/cifar10/ and resume when they are interrupted. The table goes to benchmarks/results/cifar10.md and .json, with
CPU, versions and date.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from secateur import api
from secateur.files import write_json, write_text
from secateur.measure import machine
from secateur.pipeline import RunRecord, build_images
from secateur.recipe import Recipe, SparsifyStage, load_recipe

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parent / "examples" / "cifar10_resnet20.yaml"

# row -> (pattern, sparsity, goal for top-1 in percent)
ROWS: dict[str, tuple[str, float, float | None]] = {
    "unstructured-80": ("unstructured", 0.8, 90.5),
    "1x4-50": ("1x4", 0.5, 90.8),
    "1x4-fine-50": ("1x4-fine", 0.5, None),
    "1x4-fine-80": ("1x4-fine", 0.8, None),
}


def recipe_for(pattern: str, sparsity: float, seed: int) -> Recipe:
    """The common recipe with one row's pattern and sparsity."""
    recipe = load_recipe(RECIPE)
    stages = tuple(
        stage.model_copy(update={"pattern": pattern, "sparsity": sparsity})
        if isinstance(stage, SparsifyStage)
        else stage
        for stage in recipe.stages
    )
    return recipe.model_copy(update={"stages": stages, "seed": seed})


def row_of(name: str, record: RunRecord) -> dict[str, Any]:
    """The figures of one run."""
    before, after = record.results("evaluate")
    export = record.results("export")[0]
    counts = export["census"]["compressed"]["totals"]
    sizes = export["files"]
    return {
        "row": name,
        "dense top-1": before["top1"],
        "top-1": after["top1"],
        "goal": ROWS[name][2],
        "sparsity": counts["sparsity"],
        "parameter reduction": counts["parameter_reduction"],
        "compute reduction": counts["compute_reduction"],
        "file share": sizes["weights.safetensors"] / sizes["dense/weights.safetensors"],
        "export max abs error": export["check"]["max_abs_error"],
        "minutes": record.seconds / 60,
        "images": after["images"],
    }


def table(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# CIFAR-10, ResNet-20: ten epochs of gradual pruning with distillation",
        "",
        f"{about['date']}, {about['cpu']}, {about['cpus']} CPUs, "
        + ", ".join(f"{name} {version}" for name, version in sorted(about["versions"].items())),
        "",
        f"{about['training images']:,} training and {about['test images']:,} test images, seed {about['seed']}, "
        f"allocation {about['allocation']}. Sparsity, and both reductions, are over all conv and linear weights. "
        "`1x4`: four filters share their kept kernels, as in the 1xN paper; `1x4-fine`: their kept positions.",
        "",
        "| pattern | sparsity | dense top-1 | top-1 | goal | parameters | MACs | weights file | minutes |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        goal = "" if row["goal"] is None else f"{row['goal']:.1f}"
        lines.append(
            f"| {row['row'].rpartition('-')[0]} | {100 * row['sparsity']:.1f} % | {row['dense top-1']:.2f} % "
            f"| {row['top-1']:.2f} % | {goal} | {row['parameter reduction']:.2f}x fewer "
            f"| {row['compute reduction']:.2f}x fewer | {100 * row['file share']:.1f} % of dense "
            f"| {row['minutes']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="cifar10, or imagefolder:DIR with train/ and test/")
    parser.add_argument("--weights", required=True, help="safetensors or .pth file of resnet20_cifar10")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"comma-separated, of {', '.join(ROWS)}")
    parser.add_argument("--runs", type=Path, default=Path("runs/cifar10"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()

    rows = []
    for name in options.rows.split(","):
        pattern, sparsity, _ = ROWS[name]
        result = api.compress(
            None,
            options.data,
            recipe_for(pattern, sparsity, options.seed),
            out=options.runs / f"{name}-seed{options.seed}",
            weights=options.weights,
            command=f"python benchmarks/cifar10.py --rows {name}",
        )
        rows.append(row_of(name, result.record))
        images = build_images(result.record.recipe.data)
        here = machine()
        about = {
            "date": datetime.now(UTC).date().isoformat(),
            "cpu": here.cpu,
            "cpus": here.cpus,
            "versions": {k: v for k, v in here.packages.items() if k in ("torch", "onnxruntime", "secateur")},
            "training images": len(images.train or ()),
            "test images": len(images.test),
            "seed": options.seed,
            "allocation": result.record.results("sparsify")[0]["plan"]["allocation"],
        }
        write_json(options.results / "cifar10.json", {"about": about, "rows": rows})
        write_text(options.results / "cifar10.md", table(rows, about))
        print(json.dumps(rows[-1]))


if __name__ == "__main__":
    main()
