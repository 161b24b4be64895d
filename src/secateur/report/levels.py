"""The levels of a run over a table of levels: what each sparsity costs, as a table and as a curve."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secateur.graph import Census
from secateur.report.charts import WIDE, Chart, make_chart, new_figure
from secateur.report.content import Accuracy, Content, Level
from secateur.report.fields import Fields
from secateur.report.format import percent, share
from secateur.report.svg import COMPRESSED, DENSE, INK
from secateur.report.table import Column, Table


def level(export: Fields, accuracy: Accuracy | None) -> Level:
    """One level, from the results of its export and of the evaluation before it. raises ArtifactError."""
    folder = export.text("folder")
    census = Census.from_dict(export.fields("census").value["compressed"])
    sizes = export.fields("files").value
    weights = next((size for name, size in sizes.items() if name.endswith(".safetensors")), None)
    return Level(folder, census, accuracy, weights if isinstance(weights, int) else None)


def levels_table(content: Content) -> Table | None:
    """Accuracy, reductions and file of every level."""
    if not content.levels:
        return None
    dense = content.accuracy.dense if content.accuracy else None
    columns = (
        Column("folder", "Artifact"),
        Column("sparsity", "Zeros", "fraction", "% of conv and linear weights"),
        Column("top1", "Top-1", "decimal", "%"),
        Column("drop", "Drop", "decimal", "points"),
        Column("top5", "Top-5", "decimal", "%", quiet=True),
        Column("parameter_reduction", "Parameters", "times"),
        Column("compute_reduction", "MACs", "times"),
        Column("bytes", "Weights file", "bytes"),
    )
    rows = []
    for found in content.levels:
        accuracy, counted, macs = found.accuracy, found.census.base("conv_linear"), found.census.base("macs")
        rows.append(
            (
                found.folder,
                counted.sparsity,
                accuracy.top1 if accuracy else None,
                dense.top1 - accuracy.top1 if dense and accuracy else None,
                accuracy.top5 if accuracy else None,
                counted.total / (counted.total - counted.zeros) if counted.total > counted.zeros else None,
                macs.total / (macs.total - macs.zeros) if macs.total > macs.zeros else None,
                found.weights_bytes,
            )
        )
    note = "Each level is a folder with a model, weights and a plan of its own. Reductions are dense / left."
    return Table("levels", "Levels", columns, tuple(rows), note)


def levels_chart(content: Content) -> Chart | None:
    """Top-1 against sparsity, with the dense network as a line; None with fewer than two levels that were measured."""
    points = [
        (found.census.base("conv_linear").sparsity, found.accuracy.top1) for found in content.levels if found.accuracy
    ]
    if len(points) < 2:
        return None
    dense = content.accuracy.dense.top1 if content.accuracy and content.accuracy.dense else None
    caption = (
        f"Top-1 of {len(points)} networks from one training, from {share(points[0][0])} to {share(points[-1][0])} zeros"
        + (f"; the line is the dense network at {percent(dense)}." if dense is not None else ".")
    )

    def draw(width: int) -> Figure:
        figure = new_figure(width, 290 if width == WIDE else 250)
        _panel(figure.add_subplot(), points, dense)
        return figure

    return make_chart("levels", "Accuracy at every level", caption, draw)


def _panel(axes: Axes, points: list[tuple[float, float]], dense: float | None) -> None:
    places, values = [100 * sparsity for sparsity, _ in points], [top1 for _, top1 in points]
    axes.plot(places, values, color=COMPRESSED, marker="o", markersize=5, linewidth=1.8)
    if dense is not None:
        axes.axhline(dense, color=DENSE, linewidth=1.8)
    for place, value in zip(places, values, strict=True):
        label = f"{value:.2f}"
        axes.annotate(label, (place, value), (-5, -13), textcoords="offset points", ha="right", color=INK)
    everything = [*values, *([] if dense is None else [dense])]
    room = max(0.5, 0.25 * (max(everything) - min(everything)))
    axes.set_ylim(min(everything) - room, max(everything) + 0.4 * room)
    axes.margins(x=0.08)
    axes.set_xlabel("zeros, % of convolution and linear weights")
    axes.set_ylabel("test top-1, %")
