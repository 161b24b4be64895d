"""The section on quantization: figures of every runtime, the noise of every layer, and what stays float."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secateur.measure import SIMULATED
from secateur.report.charts import Chart, make_chart, name_axis, new_figure
from secateur.report.content import runtime_title
from secateur.report.format import bytes_text, percent
from secateur.report.quantization import LayerNumbers, Quantization
from secateur.report.svg import COMPRESSED, EXPECTED, SURFACE
from secateur.report.table import Column, Row, Table

MOST_LAYERS = 60
FLOAT = "float"


def leads(found: Quantization) -> tuple[str, ...]:
    """What was done, and what came of it in the runtimes."""
    way = "trained with its numbers" if found.method == "qat" else f"{found.images:,} images of {found.data} calibrated"
    lines = [f"Numbers {found.numbers}, weights of {found.bits} bits; {way}."]
    if found.guard is not None:
        guard = found.guard
        share = f"{percent(guard.before)} of calibration images got the class of the float network"
        if guard.returned:
            lines.append(f"{share}, {percent(guard.after)} after {guard.returned} operators had gone back to float.")
        else:
            lines.append(f"{share}; no layer had to go back to float.")
        if not guard.held:
            lines.append(f"The bound of {guard.bound:g} % is not held.")
    floats = [layer for layer in found.layers if layer.bits is None]
    if floats and found.numbers == "int8":
        lines.append(f"{len(floats)} of {len(found.layers)} layers stay float; the table says why.")
    return tuple(lines)


def runtimes_table(found: Quantization) -> Table | None:
    """One row for each file in each runtime: bits, size, accuracy, nearness and time."""
    if found.runtimes is None:
        return None
    sizes = {
        FLOAT: found.float_bytes,
        found.numbers: next((size for name, size in found.files if name.endswith(".onnx")), None),
    }
    bits = {FLOAT: "32", found.numbers: found.bits}
    rows: list[Row] = []
    for row in found.runtimes.rows:
        times = next((timed for timed in found.timed if timed.runtime == row.runtime), None)
        timing = None if times is None else (times.float_timing if row.subject == FLOAT else times.quantized)
        accuracy = row.accuracy
        rows.append(
            (
                row.subject,
                bits[row.subject],
                sizes[row.subject],
                "simulated" if row.runtime == SIMULATED else runtime_title(row.runtime),
                None if accuracy is None else accuracy.top1,
                None if accuracy is None else accuracy.top5,
                row.same_class,
                row.difference,
                None if timing is None else timing.median_ms,
                None if times is None or row.subject == FLOAT else times.gain,
                None if row.failure is None else row.failure.message,
            )
        )
    columns = [
        Column("network", "File"),
        Column("bits", "Bits"),
        Column("bytes", "Size", "bytes"),
        Column("runtime", "Runtime"),
        Column("top1", "Top-1", "decimal", "%"),
        Column("top5", "Top-5", "decimal", "%", quiet=True),
        Column("same_class", "Same class as float", "decimal", "% of images"),
        Column("difference", "Largest difference", "decimal", "% of the largest logit", 2, quiet=True),
        Column("ms", "Latency", "decimal", "ms", 3),
        Column("gain", "Float / quantized", "times"),
        Column("failure", "Not measured because"),
    ]
    kept = [index for index in range(len(columns)) if any(row[index] is not None for row in rows)]
    first = found.timed[0] if found.timed else None
    where = "" if first is None else f" Latency: median, batch {first.batch}, {first.threads} thread(s)."
    note = (
        f"{found.runtimes.rows[0].images:,} images, the same ones everywhere. Simulated: rounding to integers and back "
        f"around float operators, in ONNX Runtime without graph optimizations.{where}"
    )
    return Table(
        "quantized_runtimes",
        "Both files in every runtime",
        tuple(columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in rows),
        note,
    )


def times_table(found: Quantization) -> Table | None:
    """Times at every batch and thread count."""
    rows: tuple[Row, ...] = tuple(
        (
            runtime_title(timed.runtime),
            timed.batch,
            timed.threads,
            None if timed.float_timing is None else timed.float_timing.median_ms,
            None if timed.quantized is None else timed.quantized.median_ms,
            None if timed.quantized is None else timed.quantized.p90_ms,
            timed.gain,
        )
        for timed in found.timed
    )
    columns = (
        Column("runtime", "Runtime"),
        Column("batch", "Batch", "integer"),
        Column("threads", "Threads", "integer"),
        Column("float_ms", "Float", "decimal", "ms", 3),
        Column("quantized_ms", "Quantized", "decimal", "ms", 3),
        Column("quantized_p90_ms", "p90", "decimal", "ms", 3, quiet=True),
        Column("gain", "Float / quantized", "times"),
    )
    note = "Medians of interleaved rounds. The float file is the network that was quantized, zeros and all."
    return Table("quantized_times", "Latency of both files", columns, rows, note) if rows else None


def files_table(found: Quantization) -> Table | None:
    """The quantized files beside the float one."""
    rows: tuple[Row, ...] = tuple(
        (name, size, size / found.float_bytes if found.float_bytes else None) for name, size in found.files
    )
    columns = (
        Column("file", "File"),
        Column("bytes", "Size", "bytes"),
        Column("share", "Of model.onnx", "fraction", "%", 1),
    )
    note = f"model.onnx, the float network, has {bytes_text(found.float_bytes)}."
    return Table("quantized_files", "Quantized files", columns, rows, note) if rows else None


def numbers_table(found: Quantization) -> Table | None:
    """Every layer: its bits and its noise, or why it stays float; then what else stays float."""
    rows: list[Row] = [
        (
            layer.name,
            layer.kind,
            layer.shape,
            layer.bits,
            layer.activation_bits if layer.bits is not None else None,
            layer.own,
            layer.total,
            layer.beyond,
            None if layer.bits is not None else layer.reason or "stays float",
        )
        for layer in found.layers
    ]
    rows += [(name, None, None, None, None, None, None, None, reason) for name, reason in found.floats]
    columns = (
        Column("layer", "Layer"),
        Column("kind", "Kind", quiet=True),
        Column("shape", "Weight shape", "shape", quiet=True),
        Column("bits", "Bits", "integer"),
        Column("activation_bits", "Input bits", "integer"),
        Column("own_noise", "Own signal to noise", "decimal", "dB", 1),
        Column("noise", "With all before", "decimal", "dB", 1),
        Column("beyond", "Beyond the range", "fraction", "% of inputs", 2, quiet=True),
        Column("reason", "Stays float because"),
    )
    note = "Signal to quantization noise of the layer's output on held-out images, of its own numbers and of all."
    return Table("numbers", "Numbers of every layer", columns, tuple(rows), note) if rows else None


def noise_chart(found: Quantization) -> Chart | None:
    """The waterfall: how the signal drowns from layer to layer; None where no noise was measured."""
    layers = [layer for layer in found.layers if layer.total is not None]
    if len(layers) < 2:
        return None
    caption = (
        "Signal to quantization noise behind each layer, in decibels: with all layers quantized (bar), and with its "
        "own numbers alone (mark)."
    )
    if len(layers) > MOST_LAYERS:
        worst = sorted(range(len(layers)), key=lambda index: layers[index].total or 0.0)[:MOST_LAYERS]
        layers = [layers[index] for index in sorted(worst)]
        caption += f" The {MOST_LAYERS} noisiest of all layers, in their order."

    def draw(width: int) -> Figure:
        figure = new_figure(width, 84 + 18 * len(layers))
        _noise_panel(figure.add_subplot(), layers)
        return figure

    return make_chart("noise", "Noise from layer to layer", caption, draw)


def _noise_panel(axes: Axes, layers: list[LayerNumbers]) -> None:
    places = range(len(layers))
    axes.barh(places, [layer.total or 0.0 for layer in layers], height=0.7, color=COMPRESSED, label="all numbers")
    marked = [(layer.own, place) for place, layer in enumerate(layers) if layer.own is not None]
    axes.plot(*zip(*marked, strict=True), "|", color=EXPECTED, markersize=11, markeredgewidth=2, label="own numbers")
    for place, layer in enumerate(layers):
        axes.annotate(
            f"{layer.total:.0f}",
            (0, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=SURFACE,
            fontsize=9.5,
        )
    axes.set_xlim(0, 1.05 * max(max(layer.total or 0.0, layer.own or 0.0) for layer in layers))
    name_axis(axes, [layer.name for layer in layers])
    axes.set_xlabel("dB; 6 dB are one bit")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1.2)
