"""The tables about running it: runtimes, export check, training, stages, machine; None without anything to say."""

from secateur.measure import LayerTimes
from secateur.report.content import Content, Latency, runtime_title
from secateur.report.format import Value, duration
from secateur.report.table import Column, Row, Table


def runtime_accuracy_table(content: Content) -> Table | None:
    """Accuracy of the exported files in every runtime."""
    rows: list[Row] = []
    for row in content.runtime_accuracy:
        dense, compressed = row.dense, row.compressed
        drop = dense.top1 - compressed.top1 if dense and compressed else None
        top1 = dense.top1 if dense else None, compressed.top1 if compressed else None
        top5 = dense.top5 if dense else None, compressed.top5 if compressed else None
        images = max(value.images for value in (dense, compressed) if value)
        rows.append((runtime_title(row.runtime), *top1, drop, *top5, images))
    columns = (
        Column("runtime", "Runtime"),
        Column("dense_top1", "Top-1 dense", "decimal", "%"),
        Column("compressed_top1", "Top-1 compressed", "decimal", "%"),
        Column("drop", "Drop", "decimal", "points"),
        Column("dense_top5", "Top-5 dense", "decimal", "%", quiet=True),
        Column("compressed_top5", "Top-5 compressed", "decimal", "%", quiet=True),
        Column("images", "Images", "integer"),
    )
    note = "Percent of the images given, the same ones for every runtime; runtimes should agree with each other."
    return Table("runtime_accuracy", "Accuracy of the exported files", columns, tuple(rows), note) if rows else None


def runtimes_table(content: Content) -> Table | None:
    """The runtimes, and what each does with zeros in its own words."""
    found = {row.runtime: (row.title, row.version, row.uses_zeros) for row in content.latencies}
    columns = (
        Column("runtime", "Runtime"),
        Column("version", "Version", quiet=True),
        Column("uses_zeros", "Does it skip the work of zero weights?"),
    )
    return Table("runtimes", "Runtimes", columns, tuple(found.values())) if found else None


def speedup_table(content: Content) -> Table | None:
    """What the zeros promised beside what each runtime made of them."""
    rows: list[Row] = []
    for row in content.latencies:
        if row.compressed is not None:
            within = row.within
            interval = (within.low, within.high) if within else (None, None)
            expected = (row.expected_parameters, row.expected_macs)
            achieved = (row.achieved, row.efficiency_parameters, row.efficiency_macs)
            inside = (within.median if within else None, *interval, _difference(row))
            rows.append((row.title, row.batch, row.threads, _zeros(row), *expected, *achieved, *inside))
    columns = (
        *_SETTING,
        Column("zeros", "Zeros"),
        Column("expected_parameters", "Expected by parameters", "times"),
        Column("expected_macs", "Expected by MACs", "times"),
        Column("achieved", "Achieved", "times"),
        Column("efficiency_parameters", "Efficiency", "fraction", "% by parameters", 1),
        Column("efficiency_macs", "Efficiency", "fraction", "% by MACs", 1),
        Column("within", "In this runtime", "times"),
        Column("within_low", "at least", "times", quiet=True),
        Column("within_high", "at most", "times", quiet=True),
        Column("difference", "Remark", quiet=True),
    )
    note = (
        "Expected: dense / left of the whole network, in weights and in MACs (base conv_linear). Achieved: the "
        "fastest dense time of any runtime at the same batch and threads / this runtime's compressed time. "
        "Efficiency: achieved in percent of expected. In this runtime: its own dense / compressed time, median of "
        "paired rounds with the 95 % interval."
    )
    return Table("speedup", "Expected and achieved speedup", columns, tuple(rows), note) if rows else None


def layer_times_tables(content: Content) -> tuple[Table, ...]:
    """What the zeros of every single layer promised, and what each runtime that tells made of them."""
    return tuple(_layer_times_table(times) for times in content.layer_times)


def _layer_times_table(times: LayerTimes) -> Table:
    rows: tuple[Row, ...] = tuple(
        (layer.name, layer.dense_ms, layer.compressed_ms, _part(layer.share), layer.expected, layer.achieved,
         _part(layer.percent_of_expected))
        for layer in times.layers
    )  # fmt: skip
    columns = (
        Column("layer", "Layer"),
        Column("dense_ms", "Dense", "decimal", "ms", 4),
        Column("compressed_ms", "Compressed", "decimal", "ms", 4),
        Column("share", "Share", "fraction", "% of compressed time", 1),
        Column("expected", "Expected", "times"),
        Column("achieved", "Achieved", "times"),
        Column("efficiency", "Efficiency", "fraction", "% of expected", 1),
    )
    note = (
        f"Medians of single layers in {runtime_title(times.runtime)}, batch {times.batch}, {times.threads} "
        f"thread{'s' if times.threads != 1 else ''}, from its profiler; what it fuses into a layer counts with it. "
        "Expected: weights / nonzeros of the layer."
    )
    title = f"Expected and achieved, layer by layer, in {runtime_title(times.runtime)}"
    return Table(f"layer_times_{times.runtime}", title, columns, rows, note)


def _part(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def latency_table(content: Content) -> Table | None:
    """Times of every runtime at every batch and thread count."""
    if not content.latencies:
        return None
    memory = any(row.memory for row in content.latencies)
    failed = any(row.failures for row in content.latencies)
    columns = [*_SETTING, Column("version", "Version", quiet=True)]
    for subject, title in (("dense", "Dense"), ("compressed", "Compressed")):
        columns += [
            Column(f"{subject}_ms", title, "decimal", "ms", 3),
            Column(f"{subject}_p90_ms", "p90", "decimal", "ms", 3, quiet=True),
            Column(f"{subject}_mad_ms", "spread", "decimal", "ms", 3, quiet=True),
            Column(f"{subject}_first_call_ms", "first call", "decimal", "ms", 1, quiet=True),
            Column(f"{subject}_runs", "runs", "integer", quiet=True),
        ]
    if memory:
        columns += [
            Column("dense_memory_bytes", "Peak memory dense", "bytes"),
            Column("compressed_memory_bytes", "compressed", "bytes"),
        ]
    if failed:
        columns.append(Column("failure", "Not measured because"))
    rows = tuple(_latency_row(row, memory, failed) for row in content.latencies)
    note = (
        "Median, 90th percentile and spread (median absolute deviation) of one inference of the whole batch; dense and "
        "compressed network were timed in turn, in the same rounds of one process."
    )
    return Table("latency", "Latency", tuple(columns), rows, note)


def export_table(content: Content) -> Table | None:
    """The exported files against torch."""
    rows = tuple(
        (row.subject, row.max_abs_error, row.max_rel_error, row.tolerance, row.top1_agreement, row.images)
        for row in content.checks
    )
    columns = (
        Column("network", "Network"),
        Column("max_abs_error", "Largest error of a logit", "tiny"),
        Column("max_rel_error", "of the largest logit", "tiny"),
        Column("tolerance", "Tolerance", "tiny"),
        Column("top1_agreement", "Same top-1", "decimal", "% of images"),
        Column("images", "Images", "integer"),
    )
    note = "The ONNX file in ONNX Runtime against the network in torch, on real images."
    return Table("export_check", "Export check", columns, rows, note) if rows else None


def training_table(content: Content) -> Table | None:
    """One line per epoch."""
    rows = tuple(
        (
            *(epoch.index, epoch.stage, epoch.epoch, epoch.learning_rate, epoch.loss, epoch.train_top1),
            *(epoch.top1, epoch.top5, epoch.test_loss, epoch.sparsity, epoch.seconds),
        )
        for epoch in content.epochs
    )
    columns = (
        Column("index", "#", "integer", quiet=True),
        Column("stage", "Stage"),
        Column("epoch", "Epoch", "integer"),
        Column("learning_rate", "Learning rate", "tiny"),
        Column("loss", "Training loss", "decimal", digits=4),
        Column("train_top1", "Training top-1", "decimal", "%"),
        Column("top1", "Test top-1", "decimal", "%"),
        Column("top5", "Test top-5", "decimal", "%"),
        Column("test_loss", "Test loss", "decimal", digits=4),
        Column("sparsity", "Zeros", "fraction", "% of conv_linear", 1),
        Column("seconds", "Time", "decimal", "s", 1),
    )
    note = "Top-1 and top-5 in percent of the training and of the test images."
    return Table("training", "Training, epoch by epoch", columns, rows, note) if rows else None


def stages_table(content: Content) -> Table | None:
    """The stages of the recipe and their time."""
    rows: tuple[Row, ...] = tuple(
        (stage.name, stage.kind, _time(stage.seconds), stage.seconds) for stage in content.stages
    )
    total: Row = ("total", None, _time(content.seconds), content.seconds)
    columns = (
        Column("stage", "Stage"),
        Column("kind", "Kind", quiet=True),
        Column("time", "Time"),
        Column("seconds", "Seconds", "decimal", digits=1, quiet=True),
    )
    return Table("stages", "Stages and their time", columns, rows, "Over all sittings.", total) if rows else None


def machine_table(content: Content) -> Table | None:
    """Machine and versions."""
    columns = (Column("what", "What"), Column("value", "Value"))
    rows = tuple(content.machine)
    return Table("machine", "Machine and versions", columns, rows) if rows else None


_SETTING = (
    Column("runtime", "Runtime"),
    Column("batch", "Batch", "integer"),
    Column("threads", "Threads", "integer"),
)


def _zeros(row: Latency) -> str:
    if row.ignores_zeros:
        return "ignored"
    return "used in part" if row.uses_zeros.lower().startswith("partly") else "used"


def _difference(row: Latency) -> str | None:
    return "no difference beyond the noise" if row.within and row.within.no_difference else None


def _latency_row(row: Latency, memory: bool, failed: bool) -> Row:
    times: list[Value] = []
    for timing in (row.dense, row.compressed):
        if timing is None:
            times += [None] * 5
        else:
            times += [timing.median_ms, timing.p90_ms, timing.mad_ms, timing.first_call_ms, timing.runs]
    reasons = "; ".join(f"{subject}: {reason}" for subject, reason in row.failures.items())
    return (
        row.title,
        row.batch,
        row.threads,
        row.version,
        *times,
        *((row.memory.get("dense"), row.memory.get("compressed")) if memory else ()),
        *((reasons or None,) if failed else ()),
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)
