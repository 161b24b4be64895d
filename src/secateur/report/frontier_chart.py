"""The picture of a frontier: accuracy, or the answers' distance to the dense network's, against every kind of cost.

One panel for each kind that was a target. All networks stand in every panel, because each has a cost of every kind:
those made for the panel's cost in colour and joined, those made for another one as grey rings, so that one sees what it
is worth to aim at the cost that counts.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secateur.posttraining.frontier import Frontier, Point
from secateur.report.chart_files import write_chart
from secateur.report.escape import clean

COMPRESSED, DENSE, INK, MUTED = "#0b6e4f", "#555555", "#333333", "#aaaaaa"
# What is drawn, the first that was measured: name, words, whether more is better.
_FIGURES = (
    ("top1", "test top-1, %"),
    ("same_class", "same class as the dense network, %"),
    ("divergence", "KL distance to the dense network, nats"),
)
_WORDS = {
    "sparsity": "zeros, % of convolution and linear weights",
    "parameters": "parameters left, % of the dense network's",
    "macs": "MACs left, % of the dense network's",
    "bytes": "bytes left, % of the dense network's",
    "seconds": "predicted seconds, % of the dense network's",
}


def write_frontier_chart(found: Frontier, *paths: Path, title: str = "") -> None:
    """Draw a frontier into files whose ending says the kind: .png, .svg, .pdf. raises DiskError."""
    write_chart(lambda: frontier_figure(found, title), paths)


def frontier_figure(found: Frontier, title: str = "") -> Figure:
    """Up to two panels beside each other."""
    kinds = list(dict.fromkeys(point.target.kind for point in found.points))
    columns, rows = min(len(kinds), 2) or 1, -(-len(kinds) // 2) or 1
    figure = Figure(figsize=(5.6 * columns, 3.7 * rows), layout="constrained")
    measured = next(((name, words) for name, words in _FIGURES if _has(found, name)), None)
    if measured is None:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no network was measured", ha="center")
        return figure
    panels = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for kind, axes in zip(kinds, panels, strict=False):
        _panel(axes, found, kind, *measured)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    if title:
        figure.suptitle(clean(title), x=0.01, ha="left", fontsize=11)
    return figure


def _has(found: Frontier, name: str) -> bool:
    return any(name in point.figures for point in found.points)


def _place(found: Frontier, point: Point, kind: str) -> float:
    """Percent: of zeros, or of the dense cost that is left."""
    share = point.costs[kind] if kind == "sparsity" else point.costs[kind] / found.dense[kind]
    return 100.0 * share


def _panel(axes: Axes, found: Frontier, kind: str, name: str, words: str) -> None:
    measured = [point for point in found.points if name in point.figures and kind in point.costs]
    own = sorted((_place(found, p, kind), p.figures[name]) for p in measured if p.target.kind == kind)
    others = [(_place(found, p, kind), p.figures[name]) for p in measured if p.target.kind != kind]
    if others:
        label = "made for another cost"
        axes.plot(*zip(*others, strict=True), "o", color=MUTED, markerfacecolor="none", markersize=4, label=label)
    axes.plot(*zip(*own, strict=True), color=COMPRESSED, marker="o", markersize=5, linewidth=1.8, label="made for this")
    if name in found.dense_figures:
        axes.axhline(found.dense_figures[name], color=DENSE, linestyle="--", linewidth=1.2, label="dense")
    for place, value in own:
        text, above = (f"{value:.3g}", 6) if name == "divergence" else (f"{value:.1f}", -13)
        axes.annotate(text, (place, value), (0, above), textcoords="offset points", ha="center", color=INK, fontsize=7)
    if kind != "sparsity":
        axes.invert_xaxis()
    axes.margins(x=0.06, y=0.14)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_xlabel(_WORDS[kind])
    axes.set_ylabel(words)
    axes.legend(fontsize=8)
