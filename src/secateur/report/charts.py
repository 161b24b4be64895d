"""The charts of the page: training curves, work per layer, latency per runtime.

Every chart is drawn twice, for wide pages and for phones, so that its text is never scaled down.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from secateur.report.content import Content, Epoch, Latency, Layer
from secateur.report.escape import clean
from secateur.report.format import count_text, percent, share
from secateur.report.svg import COMPRESSED, DENSE, EXPECTED, INK, LINE, MUTED, drawing, page_svg

WIDE, NARROW = 800, 328
MOST_LAYERS = 40
MOST_LATENCIES = 24
_ROW = 22
_DASHES = (0, (4, 2.5))


@dataclass(frozen=True)
class Chart:
    """A chart in two widths, as SVG elements; `caption` says what it shows to those who see it and those who do not."""

    name: str
    title: str
    caption: str
    wide: str
    narrow: str


def training_chart(content: Content) -> Chart | None:
    """Top-1 and sparsity over the epochs of all stages; None without at least two epochs of test accuracy."""
    epochs = [epoch for epoch in content.epochs if epoch.top1 is not None]
    if len(epochs) < 2:
        return None
    last = epochs[-1]
    ending = f" at {share(last.sparsity)} sparsity" if last.sparsity else ""
    caption = f"Over {len(epochs)} epochs the network ended at {percent(last.top1 or 0.0)} test top-1{ending}."
    dense = content.accuracy.dense.top1 if content.accuracy and content.accuracy.dense else None

    def draw(width: int) -> Figure:
        sparse = any(epoch.sparsity for epoch in epochs)
        panels = 2 if sparse else 1
        beside = width == WIDE
        figure = new_figure(width, 270 if beside else 230 * panels)
        axes = figure.subplots(1 if beside else panels, panels if beside else 1, squeeze=False).flatten()
        _accuracy_panel(axes[0], epochs, dense, content.epochs)
        if sparse:
            _sparsity_panel(axes[1], epochs)
        figure.legend(loc="outside lower left", ncols=3, columnspacing=1.2, borderpad=0)
        return figure

    return make_chart("training", "Training", caption, draw)


def layers_chart(content: Content) -> Chart | None:
    """Dense MACs of each layer, and those that are left; None when nothing was removed."""
    layers = [layer for layer in content.layers if layer.macs]
    if not layers or all(layer.macs == layer.sparse_macs for layer in layers):
        return None
    shown = layers
    caption = f"Multiply-accumulates (MACs) of one image in each of the {len(layers)} layers, dense and left"
    if len(layers) > MOST_LAYERS:
        heavy = set(sorted(range(len(layers)), key=lambda i: -layers[i].macs)[:MOST_LAYERS])
        shown = [layer for index, layer in enumerate(layers) if index in heavy]
        part = sum(layer.macs for layer in shown) / sum(layer.macs for layer in layers)
        caption = (
            f"Multiply-accumulates (MACs) of one image, dense and left, in the {MOST_LAYERS} most expensive of "
            f"{len(layers)} layers, which hold {share(part)} of all MACs"
        )
    caption += "; beside the bars stands dense / left."

    def draw(width: int) -> Figure:
        figure = new_figure(width, 74 + 20 * len(shown))
        _layers_panel(figure.add_subplot(), shown)
        return figure

    return make_chart("layers", "Work per layer", caption, draw)


def latency_chart(content: Content) -> Chart | None:
    """Dense and compressed time of every runtime, with the time that the removed MACs promised."""
    rows = [row for row in content.latencies if row.dense and row.compressed]
    if not rows:
        return None
    caption = (
        "Median time of one inference, dense and compressed; the thin line reaches to the 90th percentile, in brackets "
        "stands dense / compressed in that runtime."
    )
    if any(row.expected_macs for row in rows):
        caption += " The line marks the fastest dense time divided by what the removed MACs promise."
    if len(rows) > MOST_LATENCIES:
        caption += f" The first {MOST_LATENCIES} of {len(rows)} measurements; the table has all."
        rows = rows[:MOST_LATENCIES]
    groups: dict[tuple[int, int], list[Latency]] = {}
    for row in rows:
        groups.setdefault((row.batch, row.threads), []).append(row)

    def draw(width: int) -> Figure:
        heights = [len(group) * 2 * _ROW + 62 for group in groups.values()]
        figure = new_figure(width, sum(heights) + 40)
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights).flatten()
        for axes, group in zip(panels, groups.values(), strict=True):
            _latency_panel(axes, group, content.latencies, room=1.62 if width == NARROW else 1.22)
        handles = [
            Patch(color=DENSE, label="dense"),
            Patch(color=COMPRESSED, label="compressed"),
            Line2D([], [], color=EXPECTED, linewidth=1.8, linestyle=_DASHES, label="expected by MACs"),
        ]
        shown = handles if any(row.expected_macs for row in rows) else handles[:2]
        figure.legend(handles=shown, loc="outside upper left", ncols=3, columnspacing=1.2, borderpad=0)
        return figure

    return make_chart("latency", "Latency", caption, draw)


def make_chart(name: str, title: str, caption: str, draw: Callable[[int], Figure]) -> Chart:
    """A chart in both widths; `draw` gets a width in pixels."""
    with drawing():
        wide = page_svg(draw(WIDE), f"{name}-wide", title, caption)
        narrow = page_svg(draw(NARROW), f"{name}-narrow", title, caption)
    return Chart(name, title, caption, wide, narrow)


def new_figure(width: int, height: int) -> Figure:
    """An empty figure of so many pixels."""
    # 72 per inch: one unit of the drawing is one pixel of the page.
    layout = ConstrainedLayoutEngine(h_pad=7 / 72, w_pad=3 / 72)
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)


def _accuracy_panel(axes: Axes, epochs: list[Epoch], dense: float | None, all_epochs: tuple[Epoch, ...]) -> None:
    axes.set_title("Top-1, % of training and of test images")
    trained = [epoch for epoch in all_epochs if epoch.train_top1 is not None]
    if trained:
        axes.plot(
            [epoch.index for epoch in trained],
            [epoch.train_top1 or 0.0 for epoch in trained],
            color=MUTED,
            linewidth=1.2,
            label="training",
        )
    values = [epoch.top1 or 0.0 for epoch in epochs]
    axes.plot(
        [epoch.index for epoch in epochs],
        values,
        color=COMPRESSED,
        linewidth=2.2,
        marker="o",
        markersize=4 if len(epochs) <= 40 else 0,
        label="test",
    )
    if dense is not None:
        axes.axhline(dense, color=EXPECTED, linewidth=1.4, linestyle=_DASHES, label="dense, test")
    _stage_lines(axes, epochs)
    _epoch_axis(axes, epochs)
    axes.margins(y=0.12)


def _sparsity_panel(axes: Axes, epochs: list[Epoch]) -> None:
    axes.set_title("Sparsity, % of conv and linear weights")
    values = [100 * (epoch.sparsity or 0.0) for epoch in epochs]
    axes.plot(
        [epoch.index for epoch in epochs],
        values,
        color=COMPRESSED,
        linewidth=2.2,
        marker="o",
        markersize=4 if len(epochs) <= 40 else 0,
    )
    axes.set_ylim(0, 100)
    axes.annotate(
        f"{values[-1]:.1f} %",
        (epochs[-1].index, values[-1]),
        xytext=(0, 8 if values[-1] < 88 else -16),
        textcoords="offset points",
        ha="right",
        color=INK,
    )
    _stage_lines(axes, epochs)
    _epoch_axis(axes, epochs)


def _stage_lines(axes: Axes, epochs: list[Epoch]) -> None:
    for before, after in pairwise(epochs):
        if before.stage != after.stage:
            axes.axvline((before.index + after.index) / 2, color=LINE, linewidth=1.2)


def _epoch_axis(axes: Axes, epochs: list[Epoch]) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlim(epochs[0].index - 0.4, epochs[-1].index + 0.4)
    axes.grid(axis="x", visible=False)
    axes.tick_params(length=0)


def _layers_panel(axes: Axes, layers: list[Layer]) -> None:
    # One prefix for the whole axis: its ticks are plain numbers.
    unit, prefix = _unit(max(layer.macs for layer in layers))
    places = range(len(layers))
    axes.barh(places, [layer.macs / unit for layer in layers], height=0.72, color=DENSE, label="dense")
    axes.barh(places, [layer.sparse_macs / unit for layer in layers], height=0.72, color=COMPRESSED, label="left")
    for place, layer in zip(places, layers, strict=True):
        speedup = layer.expected_speedup
        if layer.sparse_macs < layer.macs:
            text = f"{speedup:.1f}×" if speedup else "all zero"
            _beside(axes, layer.macs / unit, place, text)
    axes.set_xlim(0, 1.12 * max(layer.macs for layer in layers) / unit)
    name_axis(axes, [layer.name for layer in layers])
    axes.set_xlabel(f"{prefix}MACs of one image")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1.2)


def _latency_panel(axes: Axes, rows: list[Latency], everything: tuple[Latency, ...], room: float) -> None:
    batch, threads = rows[0].batch, rows[0].threads
    axes.set_title(f"Batch {batch}, {threads} thread{'s' * (threads != 1)}")
    for index, row in enumerate(rows):
        for timing, offset, colour in ((row.dense, -0.19, DENSE), (row.compressed, 0.19, COMPRESSED)):
            assert timing is not None
            place, end = index + offset, max(timing.p90_ms, timing.median_ms)
            axes.barh(place, timing.median_ms, height=0.34, color=colour)
            axes.plot([timing.median_ms, end], [place, place], color=MUTED, linewidth=1.2)
            gain = f" ({row.within.median:.2f}×)" if timing is row.compressed and row.within else ""
            _beside(axes, end, place, _milliseconds(timing.median_ms) + gain)
    expected = [row.achieved * row.compressed.median_ms / row.expected_macs for row in rows
                if row.achieved and row.compressed and row.expected_macs]  # fmt: skip
    if expected:
        axes.axvline(expected[0], color=EXPECTED, linewidth=1.8, linestyle=_DASHES)
    # Panels of one batch share their scale, so that threads can be compared.
    longest = max(
        max(timing.p90_ms, timing.median_ms)
        for row in everything
        for timing in (row.dense, row.compressed)
        if timing is not None and row.batch == batch
    )
    axes.set_xlim(0, longest * room)
    name_axis(axes, [row.title for row in rows])
    axes.set_xlabel("milliseconds for the batch" if batch > 1 else "milliseconds")


def _beside(axes: Axes, end: float, place: float, text: str) -> None:
    axes.annotate(
        text, (end, place), xytext=(5, 0), textcoords="offset points", va="center", color=MUTED, fontsize=10.5
    )


def name_axis(axes: Axes, names: list[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], min_n_ticks=2))


def _short(name: str, most: int = 26) -> str:
    """The end of a long name tells layers apart better than its beginning."""
    lines = [clean(line) for line in name.split("\n")]
    return "\n".join(line if len(line) <= most else f"…{line[1 - most :]}" for line in lines)


def _unit(largest: float) -> tuple[float, str]:
    exponent = max(0, min(4, int(math.log10(largest) // 3))) if largest >= 1 else 0
    return 1000.0**exponent, ("", "k", "M", "G", "T")[exponent]


def _milliseconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else count_text(value)
