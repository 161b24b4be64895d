"""How long a new target takes, once the database of a network is there.

    python benchmarks/posttraining_stitching.py --weights DIR [--runs runs/posttraining]

Opens every database that benchmarks/posttraining.py has left in its runs folder, chooses levels for targets that nobody
has asked for before, and puts the network together: weights and masks in place. Nothing is kept from one target to the
next. The table goes to benchmarks/results/posttraining_stitching.md and .json, with CPU, versions and date.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from secateur import zoo
from secateur.files import write_json, write_text
from secateur.measure import provenance, provenance_line
from secateur.posttraining.database import Database
from secateur.posttraining.stitch import apply_, solve
from secateur.posttraining.subject_torch import TorchSubject
from secateur.posttraining.target import Target

HERE = Path(__file__).resolve().parent
TARGETS = tuple(Target("sparsity", share) for share in (0.43, 0.57, 0.66, 0.74))


def rows_of(folder: Path, weights: Path) -> list[dict[str, Any]]:
    """Every target from the database of one network."""
    name, pattern = folder.name.removeprefix("cache-").rsplit("-", 1)
    file = name if name.endswith(("_cifar10", "_imagenet")) else f"{name}_imagenet"
    network = zoo.model(name, weights=str(weights / f"{file}.safetensors")).eval()
    rows: list[dict[str, Any]] = []
    for target in TARGETS:
        subject = TorchSubject(network)
        started = time.monotonic()
        database = Database.open(folder / "database")
        stitched = solve(database, target)
        chosen = time.monotonic()
        apply_(subject, database, stitched)
        rows.append(
            {
                "network": name,
                "pattern": pattern,
                "target": target.value,
                "options": sum(len(layer.options) for layer in database.layers.values()),
                "choosing": chosen - started,
                "writing": time.monotonic() - chosen,
            }
        )
    return rows


def table(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# Stitching a network from its database",
        "",
        provenance_line(about),
        "",
        "| network | pattern | zeros | options of all layers | seconds to choose | to write weights and masks |",
        "|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['network']} | {row['pattern']} | {100 * row['target']:.0f} % | {row['options']} "
        f"| {row['choosing']:.2f} | {row['writing']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, type=Path, help="folder with NETWORK.safetensors")
    parser.add_argument("--runs", type=Path, default=Path("runs/posttraining"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    rows = [
        row
        for folder in sorted(options.runs.glob("cache-*"))
        if (folder / "database").is_dir()
        for row in rows_of(folder, options.weights)
    ]
    about = provenance("secateur", "torch")
    write_json(options.results / "posttraining_stitching.json", {"about": about, "rows": rows})
    write_text(options.results / "posttraining_stitching.md", table(rows, about))
    print(table(rows, about))


if __name__ == "__main__":
    main()
