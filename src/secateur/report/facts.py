"""Single facts of a report, read from what stages and jobs have recorded; a part that is missing gives none.

All raise ArtifactError, with file and key, for a result that is not what its stage writes.
"""

import math
from collections.abc import Iterable
from typing import Any

from secateur.graph import Census, StructureRow
from secateur.measure import LayerTimes
from secateur.report.content import Accuracy, Agreement, ExportCheck, FileSize, Layer, Storage, Technique
from secateur.report.fields import Fields
from secateur.report.format import bytes_text

_DENSE_FOLDER = "dense/"
_LABELS = {"cpu": "CPU", "cpus": "usable CPUs"}
_PLAIN_GROUPS = ("packages", "versions")


def technique(plans: list[Fields]) -> Technique | None:
    """What was asked for, from the plans of all parts."""
    if not plans:
        return None
    pattern, (first, *others) = _together(plans, "pattern"), plans
    if not others:
        sparsity, planned, base = first.number("sparsity"), first.number("achieved"), first.text("base")
    else:
        # Parts have bases of their own: together they are told among all weights of the network.
        zeros = sum(row.integer("zeros") for plan in plans for row in plan.rows("layers"))
        weights = sum(math.prod(row.shape("shape")) for row in first.rows("layers"))
        sparsity = planned = zeros / weights if weights else 0.0
        base = "conv_linear"
    return Technique(
        pattern=pattern,
        sparsity=sparsity,
        planned=planned,
        base=base,
        criterion=_together(plans, "criterion"),
        allocation=_together(plans, "allocation"),
    )


def _together(plans: list[Fields], key: str) -> str:
    return ", ".join(dict.fromkeys(plan.text(key) for plan in plans))


def agreement(made: Fields | None) -> Agreement | None:
    """How near the answers are to the dense network's, from a stage `posttraining`."""
    if made is None or "agreement" not in made:
        return None
    found = made.fields("agreement")
    return Agreement(found.number("divergence"), found.number("same_class"), found.integer("images"))


def is_smaller(measured: Fields | None) -> bool:
    """Whether the compressed network that was timed had lost channels."""
    return measured is not None and bool(measured.value.get("smaller"))


def accuracy(fields: Fields) -> Accuracy:
    """One evaluation on test images."""
    top1, images = fields.number("top1"), fields.integer("images")
    if not 0 <= top1 <= 100 or images < 1:
        fields.fail(f"a top-1 of {top1} % on {images} images")
    return Accuracy(top1, fields.number("top5"), fields.number("loss"), images)


def censuses(export: Fields | None) -> tuple[Census | None, Census | None]:
    """(of the dense network, of the compressed one)."""
    if export is None or "census" not in export:
        return None, None
    censuses = export.fields("census")
    dense = Census.from_dict(censuses.value["dense"]) if "dense" in censuses else None
    compressed = Census.from_dict(censuses.value["compressed"]) if "compressed" in censuses else None
    return dense, compressed


def layers(census: Census | None, plans: list[Fields], export: Fields | None) -> tuple[Layer, ...]:
    """Every layer of the census, with what its plan says of it and how it is stored."""
    if census is None:
        return ()
    planned: dict[str, tuple[Fields, str]] = {}
    for plan in plans:
        for row in plan.rows("layers"):
            if row.text("name") not in planned or row.optional_number("level") is not None:
                planned[row.text("name")] = row, plan.text("pattern")
    storage = _storage(export)
    layers = []
    for count in census.layers:
        row, pattern = planned.get(count.name, (None, None))
        reason = row.optional_text("reason") if row else None
        layers.append(
            Layer(
                name=count.name,
                kind=count.kind,
                shape=count.shape,
                weights=count.weights,
                nonzeros=count.nonzeros,
                macs=count.macs,
                sparse_macs=count.sparse_macs,
                pattern=pattern if row and not reason else None,
                level=row.optional_number("level") if row else None,
                skipped=reason,
                storage=storage.get(f"{count.name}.weight", storage.get(count.name)),
                note=count.note,
            )
        )
    return tuple(layers)


def _storage(export: Fields | None) -> dict[str, Storage]:
    if export is None or "formats" not in export:
        return {}
    return {
        name: Storage(fields.text("format"), fields.integer("bytes"), fields.integer("dense_bytes"))
        for name, fields in export.fields("formats").items()
    }


def structure(export: Fields | None) -> tuple[StructureRow, ...]:
    """How the zeros of every tensor lie."""
    rows = export.rows("structure") if export else []
    return tuple(
        StructureRow(
            name=row.text("name"),
            shape=row.shape("shape"),
            dense=row.integer("dense"),
            nonzeros=row.integer("nonzeros"),
            columns=row.number("columns"),
            rows=row.number("rows"),
            channels=row.number("channels"),
            kernels=row.number("kernels"),
            filters=row.number("filters"),
            fine=row.number("fine"),
            std=row.number("std"),
            mean=row.number("mean"),
            abs_mean=row.number("abs_mean"),
        )
        for row in rows
    )


def files(export: Fields | None) -> tuple[FileSize, ...]:
    """Files of the artifact, each beside that of the dense network."""
    if export is None or "files" not in export:
        return ()
    files = export.fields("files")
    return tuple(
        FileSize(
            name,
            files.integer(f"{_DENSE_FOLDER}{name}") if f"{_DENSE_FOLDER}{name}" in files else None,
            files.integer(name),
        )
        for name in files.value
        if not name.startswith(_DENSE_FOLDER)
    )


def layer_times(measured: Fields | None) -> tuple[LayerTimes, ...]:
    """Times of single layers, for each runtime that told."""
    if measured is None or "layers" not in measured:
        return ()
    # Before several runtimes were profiled, benchmarks recorded one, by itself.
    alone = isinstance(measured.value["layers"], dict)
    runtimes = [measured.fields("layers")] if alone else measured.rows("layers")
    return tuple(LayerTimes.from_dict(times.value) for times in runtimes)


def advice(measured: Fields | None) -> tuple[str, ...]:
    """Which technique pays here, one sentence for each setting."""
    if measured is None or "advice" not in measured:
        return ()
    return tuple(str(line) for line in measured.value["advice"])


def checks(export: Fields | None) -> tuple[ExportCheck, ...]:
    """The exported files against what they were written from."""
    named = (("dense", "check_dense"), ("compressed", "check"))
    if export is None:
        return ()
    return tuple(_check(subject, export.fields(key)) for subject, key in named if key in export)


def _check(subject: str, fields: Fields) -> ExportCheck:
    return ExportCheck(
        subject,
        fields.number("max_abs_error"),
        fields.number("max_rel_error"),
        fields.number("tolerance"),
        fields.number("top1_agreement"),
        fields.integer("images"),
    )


def machine_lines(value: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a machine is, flattened: (what, value)."""
    return tuple(_flat(value))


def _flat(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested facts about the machine as lines: what `packages` holds needs no word before its names."""
    for key, inner in value.items():
        name = prefix + _LABELS.get(str(key), str(key).removesuffix("_bytes").replace("_", " "))
        if isinstance(inner, dict):
            yield from _flat(inner, "" if key in _PLAIN_GROUPS else f"{name}, ")
        elif isinstance(inner, list):
            yield name, " ".join(str(item) for item in inner)
        elif isinstance(inner, int) and str(key).endswith("_bytes"):
            yield name, bytes_text(inner)
        elif isinstance(inner, float):
            yield name, f"{inner:.4g}"
        elif inner is not None:
            yield name, str(inner)
