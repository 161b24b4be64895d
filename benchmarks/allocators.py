"""Which layer loses how much: every allocation with the same number of evaluations, on ResNet-20 and CIFAR-10.

    python benchmarks/allocators.py --data imagefolder:DIR --weights DIR --evaluations 50 --seeds 0,1,2

An evaluation prunes, fits every layer to the dense one, fine-tunes for some steps, and measures the accuracy on
training images that were held out. Who can vary something spends them on that: erk on its power, energy on its tuning,
global allocations and the heuristic on their cap, ddpg and random search on tables. Uniform has nothing to vary: its
other evaluations are spent on the final training instead, which is otherwise the same for all. Test images are looked
at once, at the very end. Evaluations and runs are kept in runs/allocators/ and resume when they are interrupted; the
table goes to benchmarks/results/allocators.md and .json.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secateur import zoo
from secateur.files import read_json, write_json, write_text
from secateur.measure import provenance, provenance_line
from secateur.pipeline import Context, build_images, run_recipe
from secateur.pipeline.judge import Chosen
from secateur.pipeline.level_search import LevelJudge, search_levels
from secateur.recipe import Recipe, SparsifyStage, build_recipe
from secateur.zoo.loader import spread

HERE = Path(__file__).resolve().parent
NETWORK = "resnet20_cifar10"
SEARCHES = {"ddpg": "ddpg", "random search": "random"}


def _caps(name: str) -> Callable[[float, float], dict[str, Any]]:
    """From just above the target to .99, in even steps."""
    return lambda share, target: {"allocation": name, "cap": round(target + (0.99 - target) * share, 6)}


# Name -> what the share 0..1 of its evaluations changes in the stage.
RULES: dict[str, Callable[[float, float], dict[str, Any]]] = {
    "uniform": lambda share, target: {"allocation": "uniform"},
    "erk": lambda share, target: {"allocation": "erk", "power": 0.25 + share},
    "lamp": _caps("lamp"),
    "global_magnitude": _caps("global_magnitude"),
    "l1_normalised": _caps("l1_normalised"),
    "l2_normalised": _caps("l2_normalised"),
    "energy": lambda share, target: {"allocation": "energy", "tuning": share},
    "heuristic": _caps("heuristic"),
}


def recipe_for(options: argparse.Namespace, seed: int, change: dict[str, Any], epochs: int) -> Recipe:
    search = {
        "rollouts": options.evaluations,
        "warmup": max(options.evaluations // 4, 1),
        "iterations": options.iterations,
        "regression": {"iterations": options.regression},
        "batch_size": options.batch_size,
        "images": options.images,
    }
    searches = change.get("allocation") == "ddpg"
    stage = {
        "stage": "sparsify",
        "pattern": "unstructured",
        "sparsity": options.sparsity,
        "base": "selected",
        "schedule": {"kind": "one_shot"},
        "training": {"epochs": epochs, "batch_size": options.batch_size, "learning_rate": 0.01},
        **change,
        **({"search": search | {"learner": change["search"]}} if searches else {}),
    }
    weights = str(options.weights / f"{NETWORK}.safetensors")
    return build_recipe(
        {
            "model": {"name": NETWORK, "weights": weights},
            "data": {"name": options.data},
            "seed": seed,
            "stages": [stage, {"stage": "evaluate"}],
        }
    )


def row_of(name: str, options: argparse.Namespace, images: zoo.ImageData, seed: int) -> dict[str, Any]:
    """Spend the evaluations of one allocation, train its best table, and measure."""
    folder = options.runs / f"{name.replace(' ', '_')}-seed{seed}"
    if name in SEARCHES:
        searching = {"allocation": "ddpg", "search": SEARCHES[name]}
        context = Context.of(recipe_for(options, seed, searching, 0), folder, images)
        found = search_levels(context, stage_of(context), folder / "search")
        change = {"allocation": "listed", "levels": found.table, "sparsity": None}
        held_out, spent, choice, epochs = found.best.accuracy, len(found.rollouts), "", options.epochs
    else:
        change, held_out, spent, choice = best_of_rule(name, options, images, seed, folder)
        saved = (options.evaluations - spent) * options.iterations * options.batch_size
        epochs = options.epochs + round(saved / len(images.split("train")))
    context = Context.of(recipe_for(options, seed, change, epochs), folder / "run", images)
    record = run_recipe(context, command=f"python benchmarks/allocators.py --rows '{name}' --seeds {seed}")
    return {
        "evaluations": spent,
        "choice": choice,
        "epochs": epochs,
        "held-out top-1": 100 * held_out,
        "sparsity": record.stages[0].result["plans"][0]["achieved"],
        "top-1": record.results("evaluate")[0]["top1"],
    }


def best_of_rule(
    name: str, options: argparse.Namespace, images: zoo.ImageData, seed: int, folder: Path
) -> tuple[dict[str, Any], float, int, str]:
    """The change that did best, its accuracy, how many were tried, and what it was."""
    count = options.evaluations
    changes = [RULES[name]((number + 1) / count, options.sparsity) for number in range(count)]
    changes = [change for number, change in enumerate(changes) if change not in changes[:number]]
    context = Context.of(recipe_for(options, seed, changes[0], 0), folder, images)
    settings = recipe_for(options, seed, {"allocation": "ddpg", "search": "random"}, 0)
    judge = LevelJudge(context, stage_of(Context.of(settings, folder, images)), folder)
    path = folder / "evaluations.json"
    key = judge.depends_on() | {"sparsity": options.sparsity}
    kept = read_json(path) if path.is_file() else {}
    accuracies: list[float] = kept["accuracies"] if kept.get("key") == key else []
    for change in changes[len(accuracies) :]:
        accuracies.append(judge.accuracy(stage_of(context).model_copy(update=change)))
        write_json(path, {"key": key, "accuracies": accuracies})
    best = accuracies.index(max(accuracies))
    told = ", ".join(f"{key} {value:g}" for key, value in changes[best].items() if key != "allocation")
    return changes[best], accuracies[best], len(changes), told


def stage_of(context: Context) -> SparsifyStage:
    stage = context.recipe.stages[0]
    assert isinstance(stage, SparsifyStage)
    return stage


def table(rows: dict[str, dict[str, Any]], about: dict[str, Any]) -> str:
    """The result as Markdown; several seeds as mean and standard deviation."""
    lines = [
        "# Allocations with the same number of evaluations",
        "",
        provenance_line(about),
        "",
        f"{NETWORK}, unstructured, target {100 * about['sparsity']:g} % of the layers pruned (base selected), by "
        f"magnitude, all zeros at once. {about['evaluations']} evaluations each: {about['regression']} steps of "
        f"regression, {about['iterations']} steps of Adam, {about['batch_size']} images a step, accuracy on up to "
        f"{about['images']} training images held out, a fifth at most. Then {about['epochs']} epochs of "
        f"{about['training images']:,} training images, and {about['test images']:,} test images.",
        "",
        *([about["note"], ""] if about["note"] else []),
        "| allocation | evaluations | best | epochs | zeros | held-out top-1 | test top-1 |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for name in (*RULES, *SEARCHES):
        found = [row for key, row in rows.items() if key.rpartition(" seed ")[0] == name]
        if found:
            first = found[0]
            top1 = [row["top-1"] for row in found]
            spread_of = f" ± {statistics.stdev(top1):.2f} ({len(top1)} seeds)" if len(top1) > 1 else ""
            lines.append(
                f"| {name} | {first['evaluations']} | {first['choice'] if len(found) == 1 else ''} | {first['epochs']} "
                f"| {100 * statistics.mean(row['sparsity'] for row in found):.1f} % "
                f"| {statistics.mean(row['held-out top-1'] for row in found):.2f} % "
                f"| {statistics.mean(top1):.2f} %{spread_of} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="cifar10, or imagefolder:DIR with train/ and test/")
    parser.add_argument("--weights", required=True, type=Path, help="folder with resnet20_cifar10.safetensors")
    parser.add_argument("--rows", default=",".join((*RULES, *SEARCHES)), help="names, comma-separated")
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--evaluations", type=int, default=50, help="of each allocation")
    parser.add_argument("--iterations", type=int, default=100, help="steps of Adam of an evaluation")
    parser.add_argument("--regression", type=int, default=20, help="steps of regression of an evaluation")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=2500, help="held out of the training images")
    parser.add_argument("--epochs", type=int, default=5, help="of the final training")
    parser.add_argument("--train-limit", type=int, help="use only so many training images")
    parser.add_argument("--test-limit", type=int, help="use only so many test images")
    parser.add_argument("--note", default="", help="a sentence for the table")
    parser.add_argument("--runs", type=Path, default=Path("runs/allocators"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()

    images = build_images(recipe_for(options, 0, {}, 0).data)
    train, test = images.split("train"), images.split("test")
    images = zoo.ImageData(
        images.name,
        Chosen(train, spread(len(train), options.train_limit)),
        Chosen(test, spread(len(test), options.test_limit)),
        images.classes,
        images.flip,
    )
    settings = ("sparsity", "evaluations", "iterations", "regression", "batch_size", "images", "epochs", "note")
    counts = {"training images": len(images.split("train")), "test images": len(images.split("test"))}
    own = {name: getattr(options, name) for name in settings}
    about = provenance("torch", "secateur", "stable-baselines3", **counts, **own)
    kept = options.results / "allocators.json"
    before = read_json(kept) if kept.is_file() else {"about": {}, "rows": {}}
    where = ("date", "note", "cpu", "features")
    same = all(before["about"].get(key) == value for key, value in about.items() if key not in where)
    rows: dict[str, Any] = before["rows"] if same else {}
    for name in options.rows.split(","):
        for seed in map(int, options.seeds.split(",")):
            key = f"{name} seed {seed}"
            if key not in rows:
                rows[key] = row_of(name, options, images, seed)
                write_json(kept, {"about": about, "rows": rows})
                write_text(kept.with_suffix(".md"), table(rows, about))
            print(key, rows[key], flush=True)


if __name__ == "__main__":
    main()
