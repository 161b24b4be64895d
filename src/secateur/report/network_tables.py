"""The tables about the network: accuracy, reductions, layers, structure, files; None where there is nothing to say."""

from collections.abc import Callable

from secateur.graph import BASES, Census
from secateur.report.content import Accuracy, Content, Layer, Storage
from secateur.report.format import Value
from secateur.report.table import Column, Row, Table


def accuracy_table(content: Content) -> Table | None:
    """Top-1, top-5 and loss in torch, before and after."""
    change = content.accuracy
    if change is None:
        return None
    columns = (
        Column("network", "Network"),
        Column("top1", "Top-1", "decimal", "%"),
        Column("top1_standard_error", "Std. error", "decimal", "points", quiet=True),
        Column("top5", "Top-5", "decimal", "%"),
        Column("loss", "Loss", "decimal", digits=4),
        Column("images", "Test images", "integer"),
    )
    rows = [_accuracy_row(name, value) for name, value in _pair(change.dense, change.compressed) if value]
    total: Row | None = None
    if change.dense and change.compressed:
        before, after = change.dense, change.compressed
        total = (
            "change",
            after.top1 - before.top1,
            change.drop_error,
            after.top5 - before.top5,
            after.loss - before.loss,
            None,
        )
    note = "Percent of the test images, in torch. A change within twice its standard error may be chance."
    return Table("accuracy", "Accuracy before and after", columns, tuple(rows), note, total)


def reductions_table(content: Content) -> Table | None:
    """Zeros in every base, dense and compressed, with the reductions."""
    dense, compressed = content.dense, content.compressed
    if compressed is None:
        return None
    chosen = [layer.name for layer in content.layers if layer.pattern and not layer.skipped]
    rows: list[Row] = []
    for base in ("conv_linear", *(("selected",) if chosen else ()), "all_params", "macs"):
        count = compressed.base(base, selected=chosen)
        before = dense.base(base, selected=chosen).total if dense else None
        left = count.total - count.zeros
        rows.append((base, BASES[base], before, left, count.sparsity, count.total / left if left else None))
    columns = (
        Column("base", "Base"),
        Column("meaning", "What is counted", quiet=True),
        Column("dense", "Dense", "integer"),
        Column("left", "Left", "integer"),
        Column("sparsity", "Zeros", "fraction", "% of base"),
        Column("reduction", "Reduction", "times"),
    )
    note = f"One image of {_dims(compressed)}. Reduction is the total of the base divided by what is not zero."
    return Table("reductions", "What was removed, in every base", columns, tuple(rows), note)


def layers_table(content: Content) -> Table | None:
    """Every layer: what it holds, what was removed, what that promises."""
    if not content.layers:
        return None
    cells = _layer_cells(content.layers)
    rows = tuple(tuple(read(layer) for _, read in cells) for layer in content.layers)
    whole = _whole(content.layers)
    total = tuple(None if column.key in ("shape", "format") else read(whole) for column, read in cells)
    note = "MACs of one image. Expected speedup is MACs / MACs left of the layer alone."
    return Table("layers", "Layer by layer", tuple(column for column, _ in cells), rows, note, total)


def structure_table(content: Content) -> Table | None:
    """Whether the zeros form whole rows, kernels or filters."""
    if not content.structure:
        return None
    rows: tuple[Row, ...] = tuple(
        (
            *(row.name, row.shape, row.dense, row.nonzeros, row.columns, row.rows, row.channels),
            *(row.kernels, row.filters, row.fine, row.std, row.mean, row.abs_mean),
        )
        for row in content.structure
    )
    dense = sum(row.dense for row in content.structure)
    nonzeros = sum(row.nonzeros for row in content.structure)
    fine = 100 * (dense - nonzeros) / dense if dense else None
    total: Row = ("total", None, dense, nonzeros, None, None, None, None, None, fine, None, None, None)
    percents = (
        *(("columns", "Cols"), ("rows", "Rows"), ("channels", "Ch")),
        *(("kernels", "2D"), ("filters", "3D"), ("fine", "Fine")),
    )
    moments = (("std", "Std"), ("mean", "Mean"), ("abs_mean", "Abs-Mean"))
    columns = (
        Column("name", "Tensor"),
        Column("shape", "Shape", "shape", quiet=True),
        Column("dense", "NNZ (dense)", "integer"),
        Column("nonzeros", "NNZ", "integer"),
        *(Column(key, title, "decimal", "%", 5) for key, title in percents),
        *(Column(key, title, "decimal", digits=5, quiet=True) for key, title in moments),
    )
    note = (
        "Percent of the tensor's own columns, rows, input channels (Ch), kernels (2D), filters (3D) and weights "
        "(Fine) that are entirely zero. Cols and Rows belong to linear layers, Ch, 2D and 3D to convolutions. "
        "Deviation and means run over all weights, zeros included."
    )
    return Table("structure", "Structure of the zeros", columns, rows, note, total)


def sizes_table(content: Content) -> Table | None:
    """The files of the artifact."""
    rows = tuple((file.name, file.dense, file.compressed, file.ratio) for file in content.files)
    columns = (
        Column("file", "File"),
        Column("dense_bytes", "Dense", "bytes"),
        Column("compressed_bytes", "Compressed", "bytes"),
        Column("ratio", "Dense / compressed", "times"),
    )
    note = "ONNX stores zeros like any other number; weights.safetensors stores only what is not zero."
    return Table("sizes", "Files", columns, rows, note) if rows else None


def _pair(dense: Accuracy | None, compressed: Accuracy | None) -> tuple[tuple[str, Accuracy | None], ...]:
    return ("dense", dense), ("compressed", compressed)


def _accuracy_row(name: str, value: Accuracy) -> Row:
    return (name, value.top1, value.standard_error, value.top5, value.loss, value.images)


def _dims(census: Census) -> str:
    return "×".join(str(side) for side in census.input_shape)


def _layer_cells(layers: tuple[Layer, ...]) -> list[tuple[Column, Callable[[Layer], Value]]]:
    """The columns of the layer table with what stands in them; those that no layer fills are left out."""
    cells: list[tuple[Column, Callable[[Layer], Value]]] = [
        (Column("layer", "Layer"), lambda layer: layer.name),
        (Column("kind", "Kind", quiet=True), lambda layer: layer.kind),
        (Column("shape", "Weight shape", "shape", quiet=True), lambda layer: layer.shape),
    ]
    if any(layer.pattern or layer.skipped for layer in layers):
        cells.append((Column("pattern", "Pattern"), _pattern))
    cells += [
        (Column("sparsity", "Zeros", "fraction", "% of layer", digits=1), lambda layer: layer.sparsity),
        (Column("weights", "Weights", "integer"), lambda layer: layer.weights),
        (Column("nonzeros", "Nonzeros", "integer"), lambda layer: layer.nonzeros),
        (Column("macs", "MACs", "count"), lambda layer: layer.macs),
        (Column("sparse_macs", "MACs left", "count"), lambda layer: layer.sparse_macs),
        (Column("expected_speedup", "Expected speedup", "times"), lambda layer: layer.expected_speedup),
    ]
    if any(layer.storage for layer in layers):
        cells.append((Column("format", "Stored as"), lambda layer: layer.storage.format if layer.storage else None))
        cells.append((Column("bytes", "Stored", "bytes"), lambda layer: layer.storage.bytes if layer.storage else None))
    if any(layer.note for layer in layers):
        cells.append((Column("note", "Remark", quiet=True), lambda layer: layer.note or None))
    return cells


def _pattern(layer: Layer) -> str | None:
    return f"dense: {layer.skipped}" if layer.skipped else layer.pattern


def _whole(layers: tuple[Layer, ...]) -> Layer:
    """All layers as one."""
    stored = [layer.storage for layer in layers if layer.storage]
    return Layer(
        name="total",
        kind="",
        shape=(),
        weights=sum(layer.weights for layer in layers),
        nonzeros=sum(layer.nonzeros for layer in layers),
        macs=sum(layer.macs for layer in layers),
        sparse_macs=sum(layer.sparse_macs for layer in layers),
        storage=Storage("", sum(form.bytes for form in stored), sum(form.dense_bytes for form in stored)),
    )
