"""From the record of a run to the facts of its report."""

import math
from collections.abc import Iterable
from typing import Any

from secateur.graph import Census, StructureRow
from secateur.measure import LayerTimes
from secateur.pipeline.record import RunRecord, stage_name
from secateur.recipe import recipe_to_yaml
from secateur.report.after_training import after_training
from secateur.report.content import (
    Accuracy,
    AccuracyChange,
    Agreement,
    Content,
    Epoch,
    ExportCheck,
    FileSize,
    Layer,
    Level,
    StageTime,
    Storage,
    Technique,
)
from secateur.report.fields import Fields
from secateur.report.format import bytes_text
from secateur.report.latencies import latencies, read_benchmark, runtime_accuracies
from secateur.report.levels import level
from secateur.report.quantization import quantization

_DENSE_FOLDER = "dense/"
_TRAINING_KINDS = ("train", "sparsify", "remove_channels", "finetune")
# Before any of these stages the network is the dense one.
_COMPRESSING_KINDS = ("sparsify", "posttraining", "remove_channels", "thin")
_LABELS = {"cpu": "CPU", "cpus": "usable CPUs"}
_PLAIN_GROUPS = ("packages", "versions")


def collect(record: RunRecord, title: str | None = None) -> Content:
    """The facts in a record; without a title, model and data name the page.

    raises    ArtifactError  with file and key, when a stage's result is not what that stage writes
    """
    results = _results(record)
    export = _last([(kind, fields) for kind, fields in results if not _is_level(kind, fields)], "export")
    measured = _last(results, "benchmark")
    benchmark = read_benchmark(measured)
    plans = _plans(results)
    dense, compressed = _censuses(export)
    stages = _stages(record)
    return Content(
        title=title or _title(record),
        model=record.recipe.model.name,
        data=record.recipe.data.name,
        command=record.command,
        started=record.started,
        finished=all(stage.seconds is not None for stage in stages),
        recipe=recipe_to_yaml(record.recipe),
        machine=tuple(_flat(record.machine)),
        stages=stages,
        technique=_technique(plans),
        accuracy=_accuracy(results),
        agreement=_agreement(_last(results, "posttraining")),
        after_training=after_training(_last(results, "posttraining")),
        quantization=quantization(_last(results, "quantize"), benchmark),
        runtime_accuracy=runtime_accuracies(benchmark),
        dense=dense,
        compressed=compressed,
        layers=_layers(compressed, plans, export),
        structure=_structure(export),
        files=_files(export),
        latencies=latencies(benchmark, compressed, _is_smaller(measured)),
        layer_times=_layer_times(measured),
        advice=_advice(measured),
        load=benchmark.machine.load_average if benchmark else None,
        cpus=benchmark.machine.cpus if benchmark else None,
        checks=_checks(export),
        epochs=_epochs(results),
        levels=_levels(results),
    )


def _results(record: RunRecord) -> list[tuple[str, Fields]]:
    return [
        (stage.kind, Fields(stage.result, str(record.folder / "stages" / stage.name / "result.json")))
        for stage in record.stages
    ]


def _last(results: list[tuple[str, Fields]], kind: str) -> Fields | None:
    found = [fields for name, fields in results if name == kind]
    return found[-1] if found else None


def _title(record: RunRecord) -> str:
    for stage in record.recipe.stages:
        if stage.stage == "report" and stage.title:
            return stage.title
    return f"{record.recipe.model.name} on {record.recipe.data.name}"


def _plans(results: list[tuple[str, Fields]]) -> list[Fields]:
    """The plans of the last stage that made any: one for each of its parts."""
    planning = [fields for kind, fields in results if kind in ("sparsify", "posttraining")]
    made = [fields for fields in planning if "plans" in fields or "plan" in fields]
    if not made:
        return []
    # Before a stage could have several parts, it recorded one plan, by itself.
    return made[-1].rows("plans") if "plans" in made[-1] else [made[-1].fields("plan")]


def _technique(plans: list[Fields]) -> Technique | None:
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


def _accuracy(results: list[tuple[str, Fields]]) -> AccuracyChange | None:
    """Dense is the last evaluation before the first zeros, compressed the last one after them."""
    dense: Accuracy | None = None
    compressed: Accuracy | None = None
    compressing = False
    for kind, fields in results:
        compressing = compressing or kind in _COMPRESSING_KINDS
        if kind == "train" and not compressing:
            dense = None  # what was measured before belongs to a network that is gone
        if kind != "evaluate":
            continue
        if compressing:
            compressed = _evaluation(fields)
        else:
            dense = _evaluation(fields)
    return AccuracyChange(dense, compressed) if dense or compressed else None


def _agreement(made: Fields | None) -> Agreement | None:
    if made is None or "agreement" not in made:
        return None
    found = made.fields("agreement")
    return Agreement(found.number("divergence"), found.number("same_class"), found.integer("images"))


def _is_smaller(measured: Fields | None) -> bool:
    """Whether the compressed network that was timed had lost channels."""
    return measured is not None and bool(measured.value.get("smaller"))


def _is_level(kind: str, fields: Fields) -> bool:
    """Whether a stage exported one level of a table, and not the result of the run."""
    return kind == "export" and "folder" in fields and bool(fields.text("folder"))


def _levels(results: list[tuple[str, Fields]]) -> tuple[Level, ...]:
    levels: list[Level] = []
    accuracy: Accuracy | None = None
    for kind, fields in results:
        if kind == "evaluate":
            accuracy = _evaluation(fields)
        elif kind in _TRAINING_KINDS:
            accuracy = None
        elif _is_level(kind, fields):
            levels.append(level(fields, accuracy))
    return tuple(levels)


def _evaluation(fields: Fields) -> Accuracy:
    top1, images = fields.number("top1"), fields.integer("images")
    if not 0 <= top1 <= 100 or images < 1:
        fields.fail(f"a top-1 of {top1} % on {images} images")
    return Accuracy(top1, fields.number("top5"), fields.number("loss"), images)


def _censuses(export: Fields | None) -> tuple[Census | None, Census | None]:
    if export is None or "census" not in export:
        return None, None
    censuses = export.fields("census")
    dense = Census.from_dict(censuses.value["dense"]) if "dense" in censuses else None
    compressed = Census.from_dict(censuses.value["compressed"]) if "compressed" in censuses else None
    return dense, compressed


def _layers(census: Census | None, plans: list[Fields], export: Fields | None) -> tuple[Layer, ...]:
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


def _structure(export: Fields | None) -> tuple[StructureRow, ...]:
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


def _files(export: Fields | None) -> tuple[FileSize, ...]:
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


def _layer_times(measured: Fields | None) -> tuple[LayerTimes, ...]:
    if measured is None or "layers" not in measured:
        return ()
    # Before several runtimes were profiled, benchmarks recorded one, by itself.
    alone = isinstance(measured.value["layers"], dict)
    runtimes = [measured.fields("layers")] if alone else measured.rows("layers")
    return tuple(LayerTimes.from_dict(times.value) for times in runtimes)


def _advice(measured: Fields | None) -> tuple[str, ...]:
    if measured is None or "advice" not in measured:
        return ()
    return tuple(str(line) for line in measured.value["advice"])


def _checks(export: Fields | None) -> tuple[ExportCheck, ...]:
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


def _epochs(results: list[tuple[str, Fields]]) -> tuple[Epoch, ...]:
    epochs: list[Epoch] = []
    for number, (kind, fields) in enumerate(results):
        if kind not in _TRAINING_KINDS:
            continue
        for row in fields.rows("history"):
            epochs.append(_epoch(len(epochs) + 1, stage_name(number, kind), row))
    return tuple(epochs)


def _epoch(index: int, stage: str, row: Fields) -> Epoch:
    return Epoch(
        index=index,
        stage=stage,
        epoch=row.integer("epoch") + 1,
        learning_rate=row.optional_number("learning_rate"),
        loss=row.optional_number("loss"),
        train_top1=row.optional_number("train_accuracy"),
        top1=row.optional_number("top1"),
        top5=row.optional_number("top5"),
        test_loss=row.optional_number("test_loss"),
        sparsity=row.optional_number("sparsity"),
        seconds=row.optional_number("seconds"),
    )


def _stages(record: RunRecord) -> tuple[StageTime, ...]:
    """The stages of the recipe, without the report: the page is the same before and after it is recorded."""
    done = {stage.name: stage.seconds for stage in record.stages}
    names = [(stage_name(index, stage.stage), stage.stage) for index, stage in enumerate(record.recipe.stages)]
    return tuple(StageTime(name, kind, done.get(name)) for name, kind in names if kind != "report")


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
