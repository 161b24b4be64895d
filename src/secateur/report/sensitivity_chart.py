"""The picture of a sensitivity analysis: layers x levels as a heat map, and the curves of what hurts most.

Fifty curves in one panel say nothing; the map shows every layer, in the network's order, in steps of cost that a person
thinks in, and the curves show the shape for the few that matter.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, Colormap
from matplotlib.figure import Figure

from secateur.report.chart_files import write_chart
from secateur.report.escape import clean
from secateur.sparsity.sensitivity import Measure, SensitivityTable

CURVES = 8
_STEPS = {
    "top1": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
    "top5": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
    "loss": (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0),
    "output_error": (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
}
_WORDS = {
    "top1": "points of top-1 lost",
    "top5": "points of top-5 lost",
    "loss": "rise of the loss",
    "output_error": "relative change of the output",
}


def write_sensitivity_chart(table: SensitivityTable, *paths: Path) -> None:
    """Draw `table` into files whose ending says the kind: .png, .svg, .pdf. raises DiskError."""
    write_chart(lambda: sensitivity_figure(table), paths)


def sensitivity_figure(table: SensitivityTable) -> Figure:
    """The figure, as tall as it has layers."""
    layers = table.layers
    costs = {layer: table.costs(layer) for layer in layers}
    levels = sorted({level for own in costs.values() for level in own if level > 0})
    height = min(max(0.17 * len(layers) + 1.5, 4.6), 40.0)
    figure = Figure(figsize=(11.5, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    if not layers:
        left.text(0.5, 0.5, "no layer was analysed", ha="center")
        return figure
    _map(figure, left, costs, levels, table.measure)
    if height > 7:
        # The curves need no more room than a page's height has; the map goes on below.
        right.set_anchor("N")
        right.set_box_aspect(0.85)
    _curves(right, costs, table.measure)
    pattern = f"{table.pattern}, {table.criterion}, {table.images} images"
    figure.suptitle(clean(f"One layer pruned at a time, nothing retrained ({pattern})"), x=0.01, ha="left", fontsize=11)
    return figure


def _map(
    figure: Figure, axes: Axes, costs: dict[str, dict[float, float]], levels: list[float], measure: Measure
) -> None:
    cells = np.array([[own.get(level, np.nan) for level in levels] for own in costs.values()])
    steps = _STEPS[measure]
    colours: Colormap = matplotlib.colormaps["YlOrRd"].with_extremes(bad="#dddddd")
    shown = axes.pcolormesh(
        np.arange(len(levels) + 1),
        np.arange(len(costs) + 1),
        np.ma.masked_invalid(cells),
        cmap=colours,
        norm=BoundaryNorm(steps, colours.N, extend="max" if measure in ("loss", "output_error") else "neither"),
        edgecolors="white",
        linewidth=0.4,
    )
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(costs)) + 0.5, [_short(name) for name in costs], fontsize=7)
    every = max(1, -(-len(levels) // 10))
    places = list(range(0, len(levels), every))
    axes.set_xticks([place + 0.5 for place in places], [f"{100 * levels[place]:g}" for place in places])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("sparsity of the layer, %")
    axes.set_title(f"Every layer: {_WORDS[measure]}")
    # The distance is a share of the figure's height, and the figure is as tall as there are layers.
    pad = 0.35 / figure.get_figheight()
    bar = figure.colorbar(shown, ax=axes, location="bottom", shrink=0.9, aspect=40, ticks=steps, pad=pad)
    bar.ax.set_xticklabels([f"{step:g}" for step in steps], fontsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _curves(axes: Axes, costs: dict[str, dict[float, float]], measure: Measure) -> None:
    ordered = sorted(costs, key=lambda layer: -sum(costs[layer].values()))
    hurting, rest = ordered[:CURVES], ordered[CURVES:]
    for layer in rest:
        axes.plot([100 * level for level in costs[layer]], list(costs[layer].values()), color="#c8c8c8", linewidth=0.6)
    for index, layer in enumerate(hurting):
        axes.plot(
            [100 * level for level in costs[layer]],
            list(costs[layer].values()),
            color=f"C{index}",
            marker="o",
            markersize=2.5,
            linewidth=1.4,
            label=_short(layer),
        )
    title = f"The {len(hurting)} most sensitive" if rest else "All layers"
    axes.set_title(f"{title}{', the others in grey' if rest else ''}")
    axes.set_xlabel("sparsity of the layer, %")
    axes.set_ylabel(_WORDS[measure])
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 100)
    axes.legend(fontsize=8)


def _short(name: str) -> str:
    """A name that leaves room for the map."""
    text = clean(name)
    return text if len(text) <= 34 else f"...{text[-31:]}"
