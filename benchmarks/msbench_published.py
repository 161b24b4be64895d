"""MSBench's published figures of sparsity after training, and ours beside them: nothing is measured here.

    python benchmarks/msbench_published.py

Theirs are printed in MSBench's image classification page. Ours are those of results/posttraining.json. They are of
other networks and images, so what can be compared is how much is lost against the dense network, not the accuracy
itself; the protocol of theirs runs here from examples/recipes/msbench_reconstruction.yaml and from their own files.

The table goes to benchmarks/results/msbench_published.md.
"""

from pathlib import Path
from typing import Any

from secateur.files import read_json, write_text

HERE = Path(__file__).resolve().parent

# MSBench, ImageNet, top-1; one uniform level in all layers, 1,024 images, Adam at 1e-5, 20,000 steps for every unit.
# network -> (dense, {way: {sparsity in percent: top-1}})
ONCE: dict[str, tuple[float, dict[str, dict[int, float]]]] = {
    "ResNet-18": (
        71.00,
        {
            "masks alone": {30: 68.97, 40: 64.52, 50: 48.23, 60: 18.39},
            "layer by layer": {30: 70.80, 40: 70.55, 50: 70.19, 60: 69.36},
            "block by block": {30: 70.81, 40: 70.69, 50: 70.25, 60: 69.20},
        },
    ),
    "ResNet-50": (
        76.62,
        {
            "masks alone": {30: 75.36, 40: 72.53, 50: 60.69, 60: 33.38},
            "layer by layer": {30: 76.44, 40: 76.21, 50: 75.84, 60: 74.41},
            "block by block": {30: 76.56, 40: 76.22, 50: 75.75, 60: 74.51},
        },
    ),
    "MobileNetV2": (
        72.63,
        {
            "masks alone": {30: 33.72, 40: 1.75, 50: 0.18, 60: 0.10},
            "layer by layer": {30: 70.86, 40: 68.65, 50: 63.29, 60: 49.23},
            "block by block": {30: 70.93, 40: 68.96, 50: 64.34, 60: 53.69},
        },
    ),
    "RegNetX-600M": (
        73.52,
        {
            "masks alone": {30: 71.15, 40: 64.76, 50: 43.54, 60: 1.33},
            "layer by layer": {30: 73.35, 40: 73.07, 50: 72.43, 60: 70.97},
            "block by block": {30: 73.32, 40: 72.95, 50: 72.43, 60: 71.22},
        },
    ),
}
# The same, level after level from 10 to 60 %, layer by layer.
# network -> {steps of every layer and level: top-1 at 10, 20, ... 60 %}
PROGRESSIVE: dict[str, dict[int, tuple[float, ...]]] = {
    "ResNet-18": {
        5_000: (70.98, 70.89, 70.86, 70.62, 70.10, 69.27),
        10_000: (70.99, 70.92, 70.85, 70.60, 70.28, 69.51),
        20_000: (70.97, 70.96, 70.83, 70.62, 70.24, 69.47),
    },
    "ResNet-50": {
        5_000: (76.62, 76.58, 76.50, 76.22, 75.73, 74.45),
        10_000: (76.65, 76.60, 76.52, 76.19, 75.77, 74.55),
        20_000: (76.63, 76.52, 76.45, 76.35, 75.75, 74.69),
    },
    "MobileNetV2": {
        5_000: (72.45, 72.05, 70.97, 68.78, 63.28, 49.64),
        10_000: (72.36, 71.96, 70.95, 68.55, 63.40, 51.52),
        20_000: (72.43, 71.86, 70.50, 68.01, 62.65, 51.39),
    },
    "RegNetX-600M": {
        5_000: (73.51, 73.40, 73.38, 73.10, 72.55, 70.95),
        10_000: (73.50, 73.39, 73.38, 73.14, 72.46, 71.01),
        20_000: (73.53, 73.42, 73.40, 73.10, 72.38, 71.12),
    },
}
FRAME = """
# MSBench's published figures, and ours

Top-1 in percent, in brackets the change against the dense network of the same row. Zeros of all convolution and linear
weights unless a base is named. Networks and images are not the same in the two tables: what compares is the change.

## Theirs

Printed by MSBench (image classification page); not measured here. ImageNet, 50,000 images; magnitude masks at one
uniform level in every layer, the first and the depthwise ones included, fitted on 1,024 images by 20,000 steps of Adam
for every unit unless the row says otherwise.

{theirs}

## Ours

Measured: {where}; threads and minutes are in `posttraining.json`.
ResNet-20 on the 10,000 test images of CIFAR-10, fitted on 1,024 training images; other networks on 1,300 images of
ImageNet, fitted on 400 others. The first convolution and depthwise ones stay dense, levels are chosen layer by layer.

{ours}

Their protocol runs here as it is: `secateur compress --recipe` with one of their `sparse:` files, or
`examples/recipes/msbench_reconstruction.yaml` (level after level) and `examples/recipes/msbench_blocks.yaml` (block by
block). There is no ImageNet here to repeat their rows on.
"""
LEVELS = (10, 20, 30, 40, 50, 60, 70, 80)


def theirs() -> list[tuple[str, str, float, dict[int, float]]]:
    """(network, way, dense, sparsity in percent -> top-1) of every published row."""
    rows = [(network, way, dense, found) for network, (dense, ways) in ONCE.items() for way, found in ways.items()]
    for network, courses in PROGRESSIVE.items():
        for steps, found in courses.items():
            levels = dict(zip(LEVELS, found, strict=False))
            rows.append((network, f"level after level, {steps:,} steps", ONCE[network][0], levels))
    return sorted(rows, key=lambda row: list(ONCE).index(row[0]))


def ours(results: dict[str, Any]) -> list[tuple[str, str, float, dict[int, float]]]:
    """The same of our rows without blocks, of torch networks."""
    found: dict[tuple[str, str], tuple[float, dict[int, float]]] = {}
    for name, row in results["rows"].items():
        network, kind, *more = name.split(" ")
        pattern, _, percent = kind.rpartition("-")
        if pattern == "unstructured":
            way = "closed form and tuning" if more else "closed form"
            if "tuning" in [step["step"] for step in row["steps"]]:
                way = "closed form and tuning"
            base = "" if row["base"] == "conv_linear" else f", base {row['base']}"
            _, levels = found.setdefault((network, way + base), (row["dense top-1"], {}))
            levels[int(percent)] = row["top-1"]
    return [(network, way, dense, levels) for (network, way), (dense, levels) in found.items()]


def lines_of(rows: list[tuple[str, str, float, dict[int, float]]]) -> list[str]:
    """A table of top-1, and the change against the dense network."""
    shown = [level for level in LEVELS if any(level in levels for *_, levels in rows)]
    lines = [
        f"| network | way | dense | {' | '.join(f'{level} %' for level in shown)} |",
        f"|---|---|--:|{'--:|' * len(shown)}",
    ]
    for network, way, dense, levels in rows:
        cells = [f"{levels[n]:.2f} ({levels[n] - dense:+.2f})" if n in levels else "" for n in shown]
        lines.append(f"| {network} | {way} | {dense:.2f} | {' | '.join(cells)} |")
    return lines


def text(results: dict[str, Any]) -> str:
    """Both, and which is whose."""
    about = results["about"]
    where = f"{about['date']}, {about['cpu']}"
    body = FRAME.format(theirs="\n".join(lines_of(theirs())), ours="\n".join(lines_of(ours(results))), where=where)
    return body.lstrip()


def main() -> None:
    results = HERE / "results"
    write_text(results / "msbench_published.md", text(read_json(results / "posttraining.json")))


if __name__ == "__main__":
    main()
