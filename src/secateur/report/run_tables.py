"""The tables about running it: runtimes, export check, training, stages, machine; None where there is nothing to say."""

from secateur.report.content import Content, Latency
from secateur.report.format import Value, duration
from secateur.report.table import Column, Row, Table


def runtime_accuracy_table(content: Content) -> Table | None:
    """Accuracy of the exported files in every runtime."""
    rows = tuple((row.runtime, row.subject, row.top1, row.top5, row.images) for row in content.runtime_accuracy)
    columns = (
        Column("runtime", "Runtime"),
        Column("network", "Network"),
        Column("top1", "Top-1", "decimal", "%"),
        Column("top5", "Top-5", "decimal", "%"),
        Column("images", "Images", "integer"),
    )
    note = "Percent of the images given, the same ones for every runtime: the runtimes should agree with each other."
    return Table("runtime_accuracy", "Accuracy of every runtime", columns, rows, note) if rows else None


def latency_table(content: Content) -> Table | None:
    """Times of every runtime at every batch and thread count."""
    if not content.latencies:
        return None
    memory = any(row.memory for row in content.latencies)
    columns = (
        *_SETTING,
        Column("dense_ms", "Dense", "decimal", "ms", 3),
        Column("dense_p90_ms", "p90", "decimal", "ms", 3, quiet=True),
        Column("dense_spread_ms", "spread", "decimal", "ms", 3, quiet=True),
        Column("compressed_ms", "Compressed", "decimal", "ms", 3),
        Column("compressed_p90_ms", "p90", "decimal", "ms", 3, quiet=True),
        Column("compressed_spread_ms", "spread", "decimal", "ms", 3, quiet=True),
        Column("achieved", "Achieved", "times"),
        *(
            [Column("dense_memory", "Peak memory dense", "bytes"), Column("memory", "compressed", "bytes")]
            if memory
            else []
        ),
        Column("note", "Note", quiet=True),
    )
    rows = tuple(_latency_row(row, memory) for row in content.latencies)
    note = (
        "Median, 90th percentile and spread (median absolute deviation) of one inference of the whole batch; dense and "
        "compressed network were timed alternately in one process. Achieved is dense / compressed."
    )
    return Table("latency", "Latency", columns, rows, note)


def speedup_table(content: Content) -> Table | None:
    """What the zeros promised beside what each runtime made of them."""
    rows = tuple(
        (
            row.title,
            row.batch,
            row.threads,
            row.expected_parameters,
            row.expected_macs,
            row.achieved,
            row.efficiency(row.expected_parameters),
            row.efficiency(row.expected_macs),
            row.uses_zeros,
        )
        for row in content.latencies
        if row.achieved is not None
    )
    columns = (
        Column("runtime", "Runtime"),
        Column("batch", "Batch", "integer"),
        Column("threads", "Threads", "integer"),
        Column("expected_parameters", "Expected by parameters", "times"),
        Column("expected_macs", "Expected by MACs", "times"),
        Column("achieved", "Achieved", "times"),
        Column("efficiency_parameters", "Achieved", "fraction", "% of expected by parameters", 1),
        Column("efficiency_macs", "Achieved", "fraction", "% of expected by MACs", 1),
        Column("uses_zeros", "What the runtime does with zeros", quiet=True),
    )
    note = "Expected is dense / left, counted in weights and in MACs of the whole network (base conv_linear)."
    return Table("speedup", "Expected and achieved speedup", columns, rows, note) if rows else None


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
        (epoch.index, epoch.stage, epoch.epoch, epoch.learning_rate, epoch.loss, epoch.train_top1)
        + (epoch.top1, epoch.top5, epoch.test_loss, epoch.sparsity, epoch.seconds)
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
        Column("sparsity", "Zeros", "fraction", "% of conv and linear weights", 1),
        Column("seconds", "Time", "decimal", "s", 1),
    )
    note = "Top-1 and top-5 in percent of the training and of the test images."
    return Table("training", "Training, epoch by epoch", columns, rows, note) if rows else None


def stages_table(content: Content) -> Table | None:
    """The stages of the recipe and their time."""
    rows: tuple[Row, ...] = tuple((stage.name, stage.kind, _time(stage.seconds), stage.seconds) for stage in content.stages)
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
    Column("version", "Version", quiet=True),
    Column("batch", "Batch", "integer"),
    Column("threads", "Threads", "integer"),
)


def _latency_row(row: Latency, memory: bool) -> Row:
    times: list[Value] = []
    for timing in (row.dense, row.compressed):
        times += [timing.median, timing.p90, timing.spread] if timing else [None, None, None]
    failures = [f"{subject}: {reason}" for subject, reason in row.failures.items()]
    return (
        row.title,
        row.version,
        row.batch,
        row.threads,
        *times,
        row.achieved,
        *((row.memory.get("dense"), row.memory.get("compressed")) if memory else ()),
        "; ".join([*failures, *([row.note] if row.note else [])]) or None,
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)
